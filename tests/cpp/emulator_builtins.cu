#include "common/cuda.h"
#include "emulator_builtins.h"

namespace gcv::emulator_test {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;

__global__ void warp_kernel(WarpResults* results) {
  const unsigned lane = lane_id();
  WarpResults& r = *results;
  r.lane[lane] = lane;
  r.shuffle_from_5[lane] = __shfl_sync(kAllLanes, lane, 5);
  r.shuffle_from_3_of_8[lane] = __shfl_sync(kAllLanes, lane, 3, 8);
  r.shuffle_up_2_of_8[lane] = __shfl_up_sync(kAllLanes, lane, 2, 8);
  r.shuffle_down_3[lane] = __shfl_down_sync(kAllLanes, lane, 3);
  r.shuffle_xor_16[lane] = __shfl_xor_sync(kAllLanes, lane, 16);
  r.shuffle_xor_8_of_8[lane] = __shfl_xor_sync(kAllLanes, lane, 8, 8);
  r.ballot_thirds[lane] = __ballot_sync(kAllLanes, lane % 3 == 0);
  r.any_31[lane] = __any_sync(kAllLanes, lane == 31);
  r.all_31[lane] = __all_sync(kAllLanes, lane == 31);
  // The two halves of the warp are at different points here, each with its own mask.
  if (lane < 16) {
    r.half_warp[lane] = __shfl_xor_sync(0x0000ffffu, lane, 1);
    __syncwarp(0x0000ffffu);
  } else {
    r.half_warp[lane] = __shfl_xor_sync(0xffff0000u, lane, 2);
  }
  r.shuffled_double[lane] = __shfl_down_sync(kAllLanes, lane + 0.5, 1);
}

__global__ void block_kernel(BlockResults* results) {
  const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
  const int count = __syncthreads_count(thread % 5 == 0);
  const int any = __syncthreads_or(thread == 7);
  const int none = __syncthreads_or(thread > 1000);
  const int all = __syncthreads_and(thread < 1000);
  const int not_all = __syncthreads_and(thread != 7);
  if (thread == 0) *results = {count, any, none, all, not_all};
}

__global__ void atomics_kernel(AtomicResults* results) {
  const unsigned thread = threadIdx.x;
  atomicAdd(&results->sum, 1);
  atomicAdd(&results->float_sum, 0.5f);
  atomicAdd(&results->wide_sum, 1ull << 33);
  atomicMax(&results->most, static_cast<int>(thread));
  atomicMin(&results->least, -static_cast<int>(thread));
  atomicOr(&results->bits, 1u << (thread % 32));
  if (atomicCAS(&results->first, -1, static_cast<int>(thread)) == -1) atomicAdd(&results->winners, 1);
  const unsigned before = atomicExch(&results->exchanged, thread + 1);
  atomicAdd(&results->exchange_sum, before);
  __threadfence();
  const unsigned arrived = atomic_add_acq_rel(&results->arrived, 1u);
  if (arrived == blockDim.x - 1) store_release(&results->last, thread);
}

__global__ void arithmetic_kernel(ArithmeticResults* results) {
  const float nan = __int_as_float(0x7fc00000);
  ArithmeticResults& r = *results;
  r.min_with_nan = min(nan, 2.0f);
  r.max_with_nan = max(2.0f, nan);
  r.mixed_max = max(2, 3u);
  r.negative_min = min(-4, 3);
  // With contraction the first would keep what the product rounds away.
  const float a = 1.0f + 0x1p-12f;
  r.product_minus_rounded = __fsub_rn(__fmul_rn(a, a), 1.0f + 0x1p-11f);
  r.fused = __fmaf_rn(a, a, -(1.0f + 0x1p-11f));
  r.quotient = __fdiv_rn(1.0f, 3.0f);
  r.double_quotient = __ddiv_rn(__dadd_rn(1.0, __dmul_rn(2.0, 0.5)), __dsub_rn(4.0, 1.0));
  r.population = __popc(0xf0f0u) + __popcll(~0ull);
  r.first_bit = __ffs(8) + __ffsll(1ll << 40);
  r.leading_zeros = __clz(1) + __clz(0) + __clzll(1);
  r.float_bits = __float_as_uint(1.0f);
  r.double_bits = __double_as_longlong(1.0);
  r.half = __half2float(__float2half_rn(1.0f / 3.0f));
  r.bfloat = __bfloat162float(__float2bfloat16_rn(1.0f / 3.0f));
  r.loaded = __ldg(&r.float_bits);
  r.warp_size = warpSize;
}

}  // namespace

cudaError_t run_warp(WarpResults* results) { return launch(warp_kernel, {dim3(1), dim3(32)}, results); }

cudaError_t run_block(BlockResults* results) { return launch(block_kernel, {dim3(1), dim3(10, 5)}, results); }

cudaError_t run_atomics(AtomicResults* results) {
  return launch(atomics_kernel, {dim3(1), dim3(kAtomicThreads)}, results);
}

cudaError_t run_arithmetic(ArithmeticResults* results) {
  return launch(arithmetic_kernel, {dim3(1), dim3(1)}, results);
}

}  // namespace gcv::emulator_test
