# The torch-free CPU kernels: every *_cpu.cpp of csrc/common and the rooms once per instruction set, the products of
# bf16 for what comes on top of AVX-512, and the files that choose.

# Decisions must not depend on contraction; kernels that want a fused multiply-add ask for it by name.
set(GCV_ROOM_FLAGS_masked_conv -ffp-contract=fast)  # a room without decisions
# Nothing throws; tables for it would bring each object a weak symbol.
set(GCV_KERNEL_FLAGS -ffp-contract=off -fno-math-errno -fno-trapping-math -fno-exceptions -Wall -Wextra -Wno-psabi)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(GCV_ISAS baseline avx2 avx512)
else()
  set(GCV_ISAS baseline)
endif()
set(GCV_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(GCV_ISA_FLAGS_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mprefer-vector-width=512)
set(GCV_PAIR_UNITS avx512_bf16 amx)  # one file each
set(GCV_PAIR_FLAGS_avx512_bf16 ${GCV_ISA_FLAGS_avx512} -mavx512bf16)
set(GCV_PAIR_FLAGS_amx ${GCV_ISA_FLAGS_avx512} -mamx-tile -mamx-bf16)

# gcv_add_per_isa(<target> <room folder> [extra compile options]): adds the room's *_cpu.cpp
function(gcv_add_per_isa target dir)
  get_filename_component(room ${dir} NAME)
  file(GLOB per_isa CONFIGURE_DEPENDS ${dir}/*_cpu.cpp)
  list(FILTER per_isa EXCLUDE REGEX "_torch_cpu\\.cpp$")
  foreach(isa IN LISTS GCV_ISAS)
    set(object ${target}_${room}_${isa})
    add_library(${object} OBJECT EXCLUDE_FROM_ALL ${per_isa})  # built where a target needs it
    target_include_directories(${object} PRIVATE ${PROJECT_SOURCE_DIR}/csrc ${dir}/..)
    target_compile_definitions(${object} PRIVATE GCV_ISA=${isa})
    target_compile_options(${object} PRIVATE ${GCV_KERNEL_FLAGS} ${GCV_ROOM_FLAGS_${room}} ${GCV_ISA_FLAGS_${isa}}
                                             ${ARGN})
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${object}>)
  endforeach()
endfunction()

# gcv_cpu_kernels(<name> <SHARED|STATIC> [extra compile and link options])
function(gcv_cpu_kernels name kind)
  set(common ${PROJECT_SOURCE_DIR}/csrc/common)
  add_library(${name} ${kind} ${common}/isa.cpp ${common}/gemm_pairs.cpp)
  foreach(room IN ITEMS common LISTS GCV_ROOMS)
    gcv_add_per_isa(${name} ${PROJECT_SOURCE_DIR}/csrc/${room} ${ARGN})
  endforeach()
  if("avx512" IN_LIST GCV_ISAS)
    foreach(unit IN LISTS GCV_PAIR_UNITS)
      set(object ${name}_pairs_${unit})
      add_library(${object} OBJECT EXCLUDE_FROM_ALL ${common}/gemm_pairs_${unit}.cpp)
      target_include_directories(${object} PRIVATE ${PROJECT_SOURCE_DIR}/csrc)
      target_compile_options(${object} PRIVATE ${GCV_KERNEL_FLAGS} ${GCV_PAIR_FLAGS_${unit}} ${ARGN})
      target_sources(${name} PRIVATE $<TARGET_OBJECTS:${object}>)
    endforeach()
  endif()
  target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/csrc>
                                            $<INSTALL_INTERFACE:include/gencv_fast>)
  target_compile_options(${name} PRIVATE ${ARGN})
  target_link_options(${name} PRIVATE ${ARGN})
  target_compile_features(${name} PUBLIC cxx_std_17)
endfunction()
