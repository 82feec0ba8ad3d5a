# tests/cpp/<room>_cpu_test.cpp: drives the room's CPU kernels without torch, plainly and under the sanitizers.

set(GCV_SANITIZE_plain "")
set(GCV_SANITIZE_asan -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined)
set(GCV_SANITIZE_tsan -O1 -g -fsanitize=thread)

find_package(Threads REQUIRED)
add_custom_target(cpp_tests)  # all of them, uninstrumented
foreach(mode plain asan tsan)
  set(kernels gencv_fast_kernels_cpu_${mode})
  gcv_cpu_kernels(${kernels} STATIC ${GCV_SANITIZE_${mode}})
  set_target_properties(${kernels} PROPERTIES EXCLUDE_FROM_ALL ON)
  foreach(room IN LISTS GCV_ROOMS)
    set(test ${room}_cpu_test_${mode})
    add_executable(${test} EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/tests/cpp/${room}_cpu_test.cpp)
    target_compile_options(${test} PRIVATE ${GCV_KERNEL_FLAGS} ${GCV_SANITIZE_${mode}})
    target_link_options(${test} PRIVATE ${GCV_SANITIZE_${mode}})
    target_link_libraries(${test} PRIVATE ${kernels} Threads::Threads)
    set_target_properties(${test} PROPERTIES OUTPUT_NAME ${room}_cpu_test
                                             RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/cpp_tests/${mode})
    if(mode STREQUAL plain)
      add_dependencies(cpp_tests ${test})
    endif()
  endforeach()
endforeach()
