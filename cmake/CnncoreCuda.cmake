# The optional _cuda extension. A CPU build never links CUDA; without a CUDA compiler the build
# goes on and says what is missing.
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(STATUS "cnncore: CNNCORE_CUDA=ON, but no CUDA compiler was found; _cuda is not built. "
                 "Put nvcc on PATH or set CUDACXX.")
  return()
endif()

# CNNCORE_CUDA_ARCHITECTURES, a CMake or environment variable: a list for CMake
# ("90-real", "native", …) for quick builds. Else machine code for every architecture from sm_75 on
# that this nvcc knows, and PTX of the newest for those to come.
set(CNNCORE_CUDA_ARCHITECTURES "$ENV{CNNCORE_CUDA_ARCHITECTURES}" CACHE STRING
    "Architectures to compile for; empty: all from 75 on that nvcc knows")
if(CNNCORE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "${CNNCORE_CUDA_ARCHITECTURES}")
elseif(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --list-gpu-arch OUTPUT_VARIABLE listed
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  string(REGEX MATCHALL "[0-9]+" known "${listed}")
  list(REMOVE_DUPLICATES known)
  list(SORT known COMPARE NATURAL)
  set(CMAKE_CUDA_ARCHITECTURES "")
  set(newest 75)
  foreach(architecture IN LISTS known)
    # These run the code of an earlier one of their generation, and gain nothing from their own.
    if(architecture GREATER_EQUAL 75 AND NOT architecture MATCHES "^(87|88|103|121)$")
      list(APPEND CMAKE_CUDA_ARCHITECTURES "${architecture}-real")
      set(newest "${architecture}")
    endif()
  endforeach()
  list(APPEND CMAKE_CUDA_ARCHITECTURES "${newest}-virtual")
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

pybind11_add_module(_cuda NO_EXTRAS ${CNNCORE_DEVICE_BINDINGS} ${CNNCORE_DEVICE_SOURCES})
target_include_directories(_cuda PRIVATE "${PROJECT_SOURCE_DIR}/csrc/include"
                                         "${PROJECT_SOURCE_DIR}/csrc")
target_link_libraries(_cuda PRIVATE CUDA::cudart_static)
set_target_properties(_cuda PROPERTIES CUDA_STANDARD 17 CUDA_VISIBILITY_PRESET hidden)
foreach(source IN LISTS CNNCORE_DEVICE_EXACT)
  set_source_files_properties("${source}" PROPERTIES COMPILE_OPTIONS "--fmad=false")
endforeach()
string(REPLACE ";" "," architectures "${CMAKE_CUDA_ARCHITECTURES}")
target_compile_definitions(_cuda PRIVATE CNNCORE_CUDA_MODULE=_cuda
                                         CNNCORE_CUDA_ARCHITECTURES="${architectures}")
if(CNNCORE_OUTPUT_DIR)
  set_target_properties(_cuda PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${CNNCORE_OUTPUT_DIR}")
endif()
install(TARGETS _cuda LIBRARY DESTINATION cnncore)
