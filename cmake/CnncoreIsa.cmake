# How the native targets are compiled, and how csrc/cpu/isa is compiled once per instruction set.

function(cnncore_configure_target target)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/csrc/include"
                                               "${PROJECT_SOURCE_DIR}/csrc")
  if(NOT MSVC)
    # -fno-math-errno lets loops with sqrt vectorise; NaN and infinities keep their meaning.
    target_compile_options(${target} PRIVATE
      -Wall -Wextra -fno-math-errno -fno-trapping-math
      "-fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=")
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O3>)
    if(CNNCORE_WERROR)
      target_compile_options(${target} PRIVATE -Werror)
    endif()
    if(CNNCORE_SANITIZE)
      target_compile_options(${target} PRIVATE -fsanitize=${CNNCORE_SANITIZE}
                             -fno-omit-frame-pointer -g)
      target_link_options(${target} PRIVATE -fsanitize=${CNNCORE_SANITIZE})
    endif()
  endif()
  if(CNNCORE_OUTPUT_DIR AND NOT target MATCHES "_isa_")
    set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${CNNCORE_OUTPUT_DIR}")
  endif()
endfunction()

# cnncore_add_isa_objects(target source...): compiles the sources into one namespace per instruction
# set (cnncore::baseline, cnncore::avx2, cnncore::avx512) and links all of them into the target.
function(cnncore_add_isa_objects target)
  set(flags_baseline "")
  set(names baseline)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    list(APPEND names avx2 avx512)
    set(flags_avx2 -mavx2 -mfma)
    set(flags_avx512 -mavx2 -mfma -mavx512f -mavx512bw -mavx512vl -mavx512dq
                     -mprefer-vector-width=512)
    target_compile_definitions(${target} PRIVATE CNNCORE_X86=1)
  endif()
  foreach(name IN LISTS names)
    set(objects ${target}_isa_${name})
    add_library(${objects} OBJECT ${ARGN})
    cnncore_configure_target(${objects})
    target_compile_options(${objects} PRIVATE ${flags_${name}})
    target_compile_definitions(${objects} PRIVATE CNNCORE_ISA_NAMESPACE=${name}
                                                  CNNCORE_ISA_NAME="${name}")
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${objects}>)
  endforeach()
endfunction()
