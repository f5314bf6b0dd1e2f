# The device sources, and the module that runs them on the host for tests. nvcc compiles the same
# sources for `_cuda` (CnncoreCuda.cmake).
set(CNNCORE_DEVICE_SOURCES
  csrc/cuda/boxes.cu
  csrc/cuda/capability.cu
  csrc/cuda/conv_bfloat16.cu
  csrc/cuda/conv_double.cu
  csrc/cuda/conv_float.cu
  csrc/cuda/conv_half.cu
  csrc/cuda/device.cu
  csrc/cuda/optim.cu
  csrc/cuda/pointwise.cu
  csrc/cuda/pool.cu
  csrc/cuda/reduce.cu
  csrc/cuda/resample.cu
  csrc/cuda/rows.cu
  csrc/cuda/segments.cu
)
set(CNNCORE_DEVICE_BINDINGS
  csrc/cuda/bindings/boxes.cpp
  csrc/cuda/bindings/conv.cpp
  csrc/cuda/bindings/optim.cpp
  csrc/cuda/bindings/pointwise.cpp
  csrc/cuda/bindings/reduce.cpp
  csrc/cuda/bindings/rows.cpp
  csrc/cuda/bindings/sampling.cpp
  csrc/cuda/bindings/segments.cpp
  csrc/cuda/module.cpp
)
# Compiled without fused multiply-adds: overlaps of boxes are compared with thresholds.
set(CNNCORE_DEVICE_EXACT csrc/cuda/boxes.cu)

# cnncore_add_device_host_module(): `_cuda_host`, in which a launch is a loop. CMake compiles a .cu
# file in one language only, so each is included by a one-line C++ file.
function(cnncore_add_device_host_module)
  set(wrapped "")
  foreach(source IN LISTS CNNCORE_DEVICE_SOURCES)
    get_filename_component(name "${source}" NAME_WE)
    set(wrapper "${CMAKE_CURRENT_BINARY_DIR}/device_host/${name}.cpp")
    file(CONFIGURE OUTPUT "${wrapper}" CONTENT "#include \"${PROJECT_SOURCE_DIR}/${source}\"\n")
    if("${source}" IN_LIST CNNCORE_DEVICE_EXACT)
      set_source_files_properties("${wrapper}" PROPERTIES COMPILE_OPTIONS "-ffp-contract=off")
    endif()
    list(APPEND wrapped "${wrapper}")
  endforeach()
  pybind11_add_module(_cuda_host NO_EXTRAS ${wrapped} ${CNNCORE_DEVICE_BINDINGS})
  cnncore_configure_target(_cuda_host)
  # Correct, not fast: little optimisation keeps the build of the tests short.
  # What a file includes is not foreign here, so its unnamed namespace may hold types of fields.
  target_compile_options(_cuda_host PRIVATE -O1 -Wno-subobject-linkage)
  target_compile_definitions(_cuda_host PRIVATE CNNCORE_CUDA_MODULE=_cuda_host
                                                CNNCORE_CUDA_ARCHITECTURES="host")
endfunction()
