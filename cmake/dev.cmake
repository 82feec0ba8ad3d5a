# What only the tests need: the emulator, every room's CUDA operators executed by it, and the demo operator's room.

include(${PROJECT_SOURCE_DIR}/csrc/emulator/emulator.cmake)

# gcv_emulated_kernels(<folder of rooms> <room>...): targets gcv_emulated_<room>_<mode>, the rooms' CUDA kernels
function(gcv_emulated_kernels csrc)
  foreach(room IN LISTS ARGN)
    file(GLOB kernels CONFIGURE_DEPENDS ${csrc}/${room}/*_cuda.cu)
    foreach(mode plain asan tsan)
      gcv_emulated_objects(gcv_emulated_${room} MODE ${mode} SOURCES ${kernels})
      target_include_directories(gcv_emulated_${room}_${mode} PRIVATE ${csrc})
      set_target_properties(gcv_emulated_${room}_${mode} PROPERTIES EXCLUDE_FROM_ALL ON)
    endforeach()
  endforeach()
endfunction()

# gcv_emulated_operators(<name> <folder of rooms> <room>...): registers the rooms' CUDA operators, for CPU tensors, as
# gencv_fast_emulated::*
function(gcv_emulated_operators name csrc)
  gcv_emulated_kernels(${csrc} ${ARGN})
  set(bindings "")
  foreach(room IN LISTS ARGN)
    file(GLOB found CONFIGURE_DEPENDS ${csrc}/${room}/*_torch_cuda.cpp)
    list(APPEND bindings ${found})
  endforeach()
  gcv_emulated_library(${name} MODE plain SOURCES ${bindings})
  foreach(room IN LISTS ARGN)
    target_link_libraries(${name}_plain PRIVATE gcv_emulated_${room}_plain)
  endforeach()
  gcv_bind_torch(${name}_plain CPU)
  target_include_directories(${name}_plain PRIVATE ${csrc})
endfunction()

# tests/cpp/<room>[_<part>]_emulated_test.cpp: drives the room's CUDA launchers without torch, for the sanitizers.
function(gcv_emulated_tests)
  foreach(room IN LISTS ARGN)
    gcv_cpp_tests(tests ${room} emulated)
    foreach(test IN LISTS tests)
      foreach(mode plain asan tsan)
        gcv_emulated_executable(${test} MODE ${mode} SOURCES ${PROJECT_SOURCE_DIR}/tests/cpp/${test}.cpp)
        target_link_libraries(${test}_${mode} PRIVATE gcv_emulated_${room}_${mode})
        target_compile_definitions(${test}_${mode} PRIVATE ${GCV_EMULATOR_DEFINES_${mode}})
        set_target_properties(${test}_${mode} PROPERTIES EXCLUDE_FROM_ALL $<NOT:$<STREQUAL:${mode},plain>>)
      endforeach()
    endforeach()
  endforeach()
endfunction()

# The demo room lies among the tests.
set(demo_csrc ${PROJECT_SOURCE_DIR}/tests/demo/csrc)

set(GCV_EMULATED_ROOMS "")  # those that have CUDA kernels
foreach(room IN LISTS GCV_ROOMS)
  file(GLOB kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/csrc/${room}/*_cuda.cu)
  if(kernels)
    list(APPEND GCV_EMULATED_ROOMS ${room})
  endif()
endforeach()

if(GCV_EMULATOR_AVAILABLE)
  gcv_emulated_operators(gencv_fast_emulated ${PROJECT_SOURCE_DIR}/csrc ${GCV_EMULATED_ROOMS})
  gcv_emulated_operators(gencv_fast_demo_emulated ${demo_csrc} demo)
  gcv_emulated_tests(${GCV_EMULATED_ROOMS})
endif()

add_library(gencv_fast_demo_torch_cpu SHARED ${demo_csrc}/demo/demo_torch_cpu.cpp)
target_include_directories(gencv_fast_demo_torch_cpu PRIVATE ${demo_csrc})
gcv_add_per_isa(gencv_fast_demo_torch_cpu ${demo_csrc}/demo)
gcv_bind_torch(gencv_fast_demo_torch_cpu CPU)
target_link_libraries(gencv_fast_demo_torch_cpu PRIVATE gencv_fast_kernels_cpu)

if(GCV_CUDA_ENABLED)
  gcv_cuda_kernels(gencv_fast_demo_kernels_cuda ${demo_csrc}/demo)
  target_include_directories(gencv_fast_demo_kernels_cuda PRIVATE ${demo_csrc})
  add_library(gencv_fast_demo_torch_cuda SHARED ${demo_csrc}/demo/demo_torch_cuda.cpp)
  target_include_directories(gencv_fast_demo_torch_cuda PRIVATE ${demo_csrc})
  gcv_bind_torch(gencv_fast_demo_torch_cuda CUDA)
  target_link_libraries(gencv_fast_demo_torch_cuda PRIVATE gencv_fast_demo_kernels_cuda)
endif()

# The plain product of common/gemm.h, for benchmarks and tests.
file(GLOB GCV_PRODUCTS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/products/*_torch_cpu.cpp)
add_library(gencv_fast_products_torch_cpu SHARED ${GCV_PRODUCTS})
gcv_bind_torch(gencv_fast_products_torch_cpu CPU)
target_link_libraries(gencv_fast_products_torch_cpu PRIVATE gencv_fast_kernels_cpu)
