# Builds the emulator and, with it, *.cu files by the C++ compiler. Reads GCV_CUDA_INCLUDE_DIRS.
#
#   gcv_emulated_library(<name> MODE plain|asan|tsan SOURCES a_cuda.cu b.cpp ...)     target <name>_<mode>, lib<name>.so
#   gcv_emulated_executable(<name> MODE plain|asan|tsan SOURCES ...)                  target <name>_<mode>
#   gcv_emulated_objects(<name> MODE plain|asan|tsan SOURCES ...)                     target <name>_<mode>, for others
#
# Products lie in ${CMAKE_BINARY_DIR}/emulated/<mode>/. Add include directories and libraries to the target as usual.
# Where NVIDIA's headers are missing, GCV_EMULATOR_AVAILABLE is OFF and neither function is defined.

set(GCV_EMULATOR_DIR ${CMAKE_CURRENT_LIST_DIR})
get_filename_component(GCV_EMULATOR_CSRC ${GCV_EMULATOR_DIR} DIRECTORY)

set(GCV_EMULATOR_AVAILABLE ON)
foreach(header cuda_runtime.h cuda_bf16.h crt/host_defines.h)
  find_file(gcv_emulator_header ${header} PATHS ${GCV_CUDA_INCLUDE_DIRS} NO_DEFAULT_PATH NO_CACHE)
  if(NOT gcv_emulator_header)
    message(STATUS "gencv_fast: ${header} not found, the CUDA emulator is left out (it needs the CUDA toolkit's headers)")
    set(GCV_EMULATOR_AVAILABLE OFF)
    return()
  endif()
  unset(gcv_emulator_header)
endforeach()

# No contraction, as nvcc's -fmad=false; frames for the sanitizers' reports.
set(GCV_EMULATED_FLAGS_plain -O2)
set(GCV_EMULATED_FLAGS_asan -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined
                            -fno-sanitize-recover=undefined)
set(GCV_EMULATED_FLAGS_tsan -O1 -g -fno-omit-frame-pointer -fsanitize=thread)
set(GCV_EMULATED_LINK_asan -fsanitize=address,undefined)
set(GCV_EMULATED_LINK_tsan -fsanitize=thread)
set(GCV_EMULATOR_DEFINES_asan GCV_EMULATOR_ASAN)
set(GCV_EMULATOR_DEFINES_tsan GCV_EMULATOR_TSAN)

# The engine is never instrumented. Its loops over memory must not become calls to memset and memcpy, nor its calls
# become loops: the sanitizers intercept the calls.
function(gcv_emulator_engine target mode)
  file(GLOB sources CONFIGURE_DEPENDS ${GCV_EMULATOR_DIR}/*.cpp)
  add_library(${target} OBJECT ${sources})
  target_compile_features(${target} PUBLIC cxx_std_17)
  target_include_directories(${target} PUBLIC ${GCV_EMULATOR_CSRC})
  target_include_directories(${target} SYSTEM PUBLIC ${GCV_CUDA_INCLUDE_DIRS})
  target_compile_definitions(${target} PUBLIC GCV_EMULATED PRIVATE ${GCV_EMULATOR_DEFINES_${mode}} ${ARGN})
  target_compile_options(${target} PRIVATE -O3 -g -fno-builtin -fno-tree-loop-distribute-patterns -Wall -Wextra)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden)
endfunction()

# CMake must not take a .cu file for CUDA here, so each is included by a .cpp file, with the emulator's API before it.
function(gcv_emulated_sources result target)
  set(sources "")
  foreach(source IN LISTS ARGN)
    get_filename_component(path ${source} ABSOLUTE)
    get_filename_component(extension ${source} LAST_EXT)
    if(extension STREQUAL ".cu")
      get_filename_component(base ${source} NAME)
      set(wrapper ${CMAKE_BINARY_DIR}/emulated/sources/${target}/${base}.cpp)
      file(CONFIGURE OUTPUT ${wrapper} CONTENT "#include \"${path}\"\n")
      set_source_files_properties(${wrapper} PROPERTIES COMPILE_OPTIONS "-include;${GCV_EMULATOR_DIR}/emulator.h")
      set(path ${wrapper})
    endif()
    list(APPEND sources ${path})
  endforeach()
  set(${result} ${sources} PARENT_SCOPE)
endfunction()

function(gcv_emulated_target target name mode engine)
  if(NOT TARGET ${engine})
    gcv_emulator_engine(${engine} ${mode})
  endif()
  target_link_libraries(${target} PRIVATE ${engine})
  target_compile_options(${target} PRIVATE ${GCV_EMULATED_FLAGS_${mode}} -ffp-contract=off -Wall -Wextra
                                           -Wno-unknown-pragmas)
  target_link_options(${target} PRIVATE ${GCV_EMULATED_LINK_${mode}})
  set_target_properties(${target} PROPERTIES
    OUTPUT_NAME ${name}
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/emulated/${mode}
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/emulated/${mode})
endfunction()

function(gcv_emulated_objects name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "MODE" "SOURCES")
  set(target ${name}_${arg_MODE})
  gcv_emulated_sources(sources ${target} ${arg_SOURCES})
  add_library(${target} OBJECT ${sources})
  gcv_emulated_target(${target} ${name} ${arg_MODE} gcv_emulator_engine_${arg_MODE})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()

function(gcv_emulated_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "MODE" "SOURCES")
  set(target ${name}_${arg_MODE})
  gcv_emulated_sources(sources ${target} ${arg_SOURCES})
  add_library(${target} SHARED ${sources})
  gcv_emulated_target(${target} ${name} ${arg_MODE} gcv_emulator_engine_${arg_MODE})
endfunction()

function(gcv_emulated_executable name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "MODE;ENGINE" "SOURCES")
  set(target ${name}_${arg_MODE})
  if(NOT arg_ENGINE)
    set(arg_ENGINE gcv_emulator_engine_${arg_MODE})
  endif()
  gcv_emulated_sources(sources ${target} ${arg_SOURCES})
  add_executable(${target} ${sources})
  gcv_emulated_target(${target} ${name} ${arg_MODE} ${arg_ENGINE})
endfunction()

get_filename_component(gcv_emulator_tests ${GCV_EMULATOR_CSRC}/../tests/cpp ABSOLUTE)
file(GLOB gcv_emulator_test_sources CONFIGURE_DEPENDS ${gcv_emulator_tests}/emulator_*.cu
                                                      ${gcv_emulator_tests}/emulator_*.cpp)
foreach(mode plain asan tsan)
  gcv_emulated_executable(emulator_test MODE ${mode} SOURCES ${gcv_emulator_test_sources})
endforeach()

# The switch of processors that have no hand-written one, tested on those that do.
gcv_emulator_engine(gcv_emulator_engine_ucontext plain GCV_EMULATOR_UCONTEXT)
gcv_emulated_executable(emulator_test_ucontext MODE plain ENGINE gcv_emulator_engine_ucontext
                        SOURCES ${gcv_emulator_test_sources})
