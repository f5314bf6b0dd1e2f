# The optional _cuda extension. A CPU build never links CUDA; without a CUDA compiler the build
# goes on and says what is missing.
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(STATUS "cnncore: CNNCORE_CUDA=ON, but no CUDA compiler was found; _cuda is not built. "
                 "Put nvcc on PATH or set CUDACXX.")
  return()
endif()

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual CACHE STRING "CUDA architectures")
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

pybind11_add_module(_cuda NO_EXTRAS csrc/cuda/module.cpp csrc/cuda/device.cu)
target_include_directories(_cuda PRIVATE "${PROJECT_SOURCE_DIR}/csrc/include"
                                         "${PROJECT_SOURCE_DIR}/csrc")
target_link_libraries(_cuda PRIVATE CUDA::cudart_static)
set_target_properties(_cuda PROPERTIES CUDA_STANDARD 17 CUDA_VISIBILITY_PRESET hidden)
string(REPLACE ";" "," architectures "${CMAKE_CUDA_ARCHITECTURES}")
target_compile_definitions(_cuda PRIVATE CNNCORE_CUDA_ARCHITECTURES="${architectures}")
if(CNNCORE_OUTPUT_DIR)
  set_target_properties(_cuda PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${CNNCORE_OUTPUT_DIR}")
endif()
install(TARGETS _cuda LIBRARY DESTINATION cnncore)
