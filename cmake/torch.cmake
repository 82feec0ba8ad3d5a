# The bindings to torch, on its stable ABI: one binary for many torch versions. No find_package(Torch): it wants the
# whole CUDA toolkit that torch was built with.

execute_process(
  COMMAND ${GENCV_FAST_PYTHON} -c "import os, torch; print(os.path.dirname(torch.__file__), end='')"
  OUTPUT_VARIABLE GCV_TORCH_DIR RESULT_VARIABLE failed ERROR_VARIABLE error)
if(failed)
  message(FATAL_ERROR "gencv_fast: ${GENCV_FAST_PYTHON} cannot import torch; build inside the environment that has it "
                      "(pip install --no-build-isolation), or set GENCV_FAST_PYTHON.\n${error}")
endif()
message(STATUS "gencv_fast: building against torch in ${GCV_TORCH_DIR}")

# gcv_torch_library(<name> <CPU|CUDA> [extra definitions]): every *_torch_<device>.cpp of csrc/common and the rooms
function(gcv_torch_library name device)
  string(TOLOWER ${device} suffix)
  set(sources "")
  foreach(room IN ITEMS common LISTS GCV_ROOMS)
    file(GLOB found CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/csrc/${room}/*_torch_${suffix}.cpp)
    list(APPEND sources ${found})
  endforeach()
  add_library(${name} SHARED ${sources})
  gcv_bind_torch(${name} ${device} ${ARGN})
endfunction()

# gcv_bind_torch(<target> <CPU|CUDA> [definitions]): headers, libraries and the ABI version of the stable ABI
function(gcv_bind_torch name device)
  target_include_directories(${name} SYSTEM PRIVATE ${GCV_TORCH_DIR}/include)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/csrc)
  target_compile_definitions(${name} PRIVATE TORCH_TARGET_VERSION=${GENCV_FAST_TORCH_TARGET} ${ARGN})
  target_compile_options(${name} PRIVATE -fvisibility=hidden -Wall -Wextra)
  target_link_directories(${name} PRIVATE ${GCV_TORCH_DIR}/lib)
  target_link_libraries(${name} PRIVATE torch_cpu c10)
  if(device STREQUAL CUDA)
    target_compile_definitions(${name} PRIVATE USE_CUDA)
    target_link_libraries(${name} PRIVATE torch_cuda)
  endif()
  # torch is loaded before us; its folder must not be burnt into the binary.
  set_target_properties(${name} PROPERTIES BUILD_RPATH "$ORIGIN" INSTALL_RPATH "$ORIGIN" BUILD_WITH_INSTALL_RPATH ON)
endfunction()
