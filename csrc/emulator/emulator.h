// Force-included before every kernel file that the emulator compiles:
//   g++ -std=c++17 -ffp-contract=off -DGCV_EMULATED -I csrc -include csrc/emulator/emulator.h -x c++
//   kernel.cu
#pragma once

#ifndef GCV_EMULATED
#error "compile with -DGCV_EMULATED"
#endif

// NVIDIA's own host-side types and conversions: dim3, float4, cudaError_t, __half, __nv_bfloat16.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "emulator/atomics.h"
#include "emulator/builtins.h"
#include "emulator/warp.h"
