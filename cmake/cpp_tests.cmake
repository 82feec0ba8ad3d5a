# tests/cpp/<room, or common>[_<part>]_cpu_test.cpp: drives the room's CPU kernels without torch, plainly and under the sanitizers.

set(GCV_SANITIZE_plain "")
set(GCV_SANITIZE_asan -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined)
set(GCV_SANITIZE_tsan -O1 -g -fsanitize=thread)

# gcv_cpp_tests(<variable> <room> <kind>): the names, without .cpp, of the room's test programs
function(gcv_cpp_tests variable room kind)
  set(folder ${PROJECT_SOURCE_DIR}/tests/cpp)
  file(GLOB found CONFIGURE_DEPENDS ${folder}/${room}_${kind}_test.cpp ${folder}/${room}_*_${kind}_test.cpp)
  list(TRANSFORM found REPLACE ".*/(.*)\\.cpp$" "\\1")
  set(${variable} ${found} PARENT_SCOPE)
endfunction()

find_package(Threads REQUIRED)
add_custom_target(cpp_tests)  # all of them, uninstrumented
foreach(mode plain asan tsan)
  set(kernels gencv_fast_kernels_cpu_${mode})
  gcv_cpu_kernels(${kernels} STATIC ${GCV_SANITIZE_${mode}})
  set_target_properties(${kernels} PROPERTIES EXCLUDE_FROM_ALL ON)
  foreach(room IN ITEMS common LISTS GCV_ROOMS)
    gcv_cpp_tests(tests ${room} cpu)
    foreach(test IN LISTS tests)
      add_executable(${test}_${mode} EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/tests/cpp/${test}.cpp)
      target_compile_options(${test}_${mode} PRIVATE ${GCV_KERNEL_FLAGS} ${GCV_SANITIZE_${mode}})
      target_link_options(${test}_${mode} PRIVATE ${GCV_SANITIZE_${mode}})
      target_link_libraries(${test}_${mode} PRIVATE ${kernels} Threads::Threads)
      set_target_properties(${test}_${mode} PROPERTIES OUTPUT_NAME ${test}
                                                       RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/cpp_tests/${mode})
      if(mode STREQUAL plain)
        add_dependencies(cpp_tests ${test}_${mode})
      endif()
    endforeach()
  endforeach()
endforeach()
