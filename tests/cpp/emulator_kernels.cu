#include "common/cuda.h"
#include "emulator_kernels.h"

namespace gcv::emulator_test {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

template <Bug kBug>
__global__ void __launch_bounds__(kRowThreads)
    row_sum_kernel(const float* __restrict__ x, float* sums, int columns) {
  constexpr int kWarps = kRowThreads / 32;
  GCV_SHARED(float, part, [kWarps]);
  GCV_SHARED(float, total);
  const int thread = static_cast<int>(threadIdx.x);
  const float* row = x + int64_t(blockIdx.x) * columns;
  const int end = kBug == Bug::read_past_end ? columns + 1 : columns;

  float sum = 0;
  for (int i = thread; i < end; i += kRowThreads) sum += row[i];
  sum = warp_sum(sum);
  const bool writes = lane_id() == 0 && !(kBug == Bug::unwritten_slot && thread == 32);
  if (writes) part[thread / 32] = sum;
  if (kBug != Bug::missing_barrier) __syncthreads();

  if (thread < 32) {
    const int first = kBug == Bug::shared_index ? 1 : 0;
    const float all = warp_sum(thread < kWarps ? part[thread + first] : 0.0f);
    if (thread == 0) total = all;
  }
  if (kBug == Bug::early_exit && thread == 77) return;
  if (kBug == Bug::divergent_barrier && thread < 128) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  if (thread == kRowThreads - 1) sums[blockIdx.x] = total;
}

template <Bug kBug>
__global__ void __launch_bounds__(kRotateThreads) rotate_kernel(const int* in, int* out, int rounds) {
  GCV_SHARED(int, held, [kRotateThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  int value = in[thread];
  for (int round = 0; round < rounds; ++round) {
    held[thread] = value;
    __syncthreads();
    value = held[(thread + 1) % kRotateThreads];
    if (kBug != Bug::reused_shared) __syncthreads();
  }
  out[thread] = value;
}

template <Bug kBug>
__global__ void __launch_bounds__(kHistogramThreads)
    histogram_kernel(const int* __restrict__ values, int n, int bins, int* histogram, int* divisible) {
  int* counts = dyn_shared<int>();
  for (int bin = threadIdx.x; bin < bins; bin += kHistogramThreads) counts[bin] = 0;
  __syncthreads();

  const int i = blockIdx.x * kHistogramThreads + threadIdx.x;
  if (i < n) atomicAdd(&counts[values[i] % bins], 1);
  const unsigned votes = __ballot_sync(kAllLanes, i < n && values[i] % 3 == 0);
  if (lane_id() == 0) atomicAdd(divisible, __popc(votes));
  __syncthreads();

  for (int bin = threadIdx.x; bin < bins; bin += kHistogramThreads) {
    if (kBug == Bug::block_race) {
      histogram[bin] += counts[bin];
    } else {
      atomicAdd(&histogram[bin], counts[bin]);
    }
  }
}

// One warp; cp.async into two buffers, ldmatrix, mma.
template <Bug kBug>
__global__ void __launch_bounds__(32)
    tile_product_kernel(const __half* __restrict__ a, const __half* __restrict__ b, float* c, int depth) {
  constexpr int kPaddedDepth = 24;  // rows 48 bytes apart fall into different banks
  GCV_SHARED(__half, tile_a, [2][kTileRows][kPaddedDepth]);
  GCV_SHARED(__half, tile_b, [2][16][kTileColumns]);
  const int lane = static_cast<int>(lane_id());

  const auto load = [&](int buffer, int first) {
    const bool in_range = first < depth;
    const int row = lane / 2, column = lane % 2 * 8;
    cp_async16(&tile_a[buffer][row][column], a + row * depth + first + column, in_range);
    if (lane < 16) cp_async16(&tile_b[buffer][lane][0], b + (first + lane) * kTileColumns, in_range);
    cp_async_commit();
  };

  float sums[4] = {0, 0, 0, 0};
  load(0, 0);
  for (int first = 0; first < depth; first += 16) {
    const int buffer = first / 16 % 2;
    load(1 - buffer, first + 16);
    cp_async_wait<kBug == Bug::async_wait ? 2 : 1>();
    __syncwarp();
    uint32_t fragment_a[4], fragment_b[2];
    ldmatrix_x4(fragment_a, &tile_a[buffer][lane % 16][lane / 16 * 8]);
    ldmatrix_x2_trans(fragment_b, &tile_b[buffer][lane % 16][0]);
    mma_m16n8k16(sums, fragment_a, fragment_b);
    __syncwarp();
  }
  cp_async_wait<0>();

  const int row = lane / 4, column = lane % 4 * 2;
  for (int i = 0; i < 4; ++i) c[(row + i / 2 * 8) * kTileColumns + column + i % 2] = sums[i];
}

__global__ void __launch_bounds__(kGridThreads)
    grid_rounds_kernel(unsigned* values, unsigned* arrivals, int rounds) {
  const unsigned blocks = gridDim.x, own = blockIdx.x, neighbour = (blockIdx.x + 1) % blocks;
  for (int round = 0; round < rounds; ++round) {
    const unsigned* from = values + round % 2 * blocks;
    unsigned* to = values + (round + 1) % 2 * blocks;
    if (threadIdx.x == 0) to[own] = from[own] + from[neighbour];
    grid_barrier(arrivals);
  }
}

__global__ void wait_forever_kernel(const unsigned* flag) {
  spin_wait(flag, [](unsigned value) { return value != 0; });
}

__global__ void record_order_kernel(unsigned* counter, unsigned* order) {
  order[atomicAdd(counter, 1u)] = blockIdx.x * blockDim.x + threadIdx.x;
}

__global__ void read_dynamic_shared_kernel(float* out) { *out = dyn_shared<float>()[0]; }

__global__ void empty_kernel() {}

}  // namespace

cudaError_t row_sum(Bug bug, const float* x, float* sums, int rows, int columns) {
  const LaunchConfig config{dim3(rows), dim3(kRowThreads)};
  switch (bug) {
    case Bug::missing_barrier:
      return launch(row_sum_kernel<Bug::missing_barrier>, config, x, sums, columns);
    case Bug::unwritten_slot:
      return launch(row_sum_kernel<Bug::unwritten_slot>, config, x, sums, columns);
    case Bug::read_past_end:
      return launch(row_sum_kernel<Bug::read_past_end>, config, x, sums, columns);
    case Bug::divergent_barrier:
      return launch(row_sum_kernel<Bug::divergent_barrier>, config, x, sums, columns);
    case Bug::early_exit:
      return launch(row_sum_kernel<Bug::early_exit>, config, x, sums, columns);
    case Bug::shared_index:
      return launch(row_sum_kernel<Bug::shared_index>, config, x, sums, columns);
    default:
      return launch(row_sum_kernel<Bug::none>, config, x, sums, columns);
  }
}

cudaError_t rotate(Bug bug, const int* in, int* out, int rounds) {
  const auto kernel =
      bug == Bug::reused_shared ? rotate_kernel<Bug::reused_shared> : rotate_kernel<Bug::none>;
  return launch(kernel, {dim3(1), dim3(kRotateThreads)}, in, out, rounds);
}

cudaError_t histogram(Bug bug, const int* values, int n, int bins, int* histogram, int* divisible) {
  const auto kernel =
      bug == Bug::block_race ? histogram_kernel<Bug::block_race> : histogram_kernel<Bug::none>;
  const dim3 blocks((n + kHistogramThreads - 1) / kHistogramThreads);
  return launch(kernel, {blocks, dim3(kHistogramThreads), bins * sizeof(int)}, values, n, bins, histogram,
                divisible);
}

cudaError_t tile_product(Bug bug, const __half* a, const __half* b, float* c, int depth) {
  const auto kernel =
      bug == Bug::async_wait ? tile_product_kernel<Bug::async_wait> : tile_product_kernel<Bug::none>;
  return launch(kernel, {dim3(1), dim3(32)}, a, b, c, depth);
}

cudaError_t grid_rounds(Bug bug, int blocks, unsigned* values, unsigned* arrivals, int rounds) {
  const LaunchConfig config{dim3(blocks), dim3(kGridThreads)};
  if (bug == Bug::not_co_resident) return launch(grid_rounds_kernel, config, values, arrivals, rounds);
  int most_blocks = 0;
  if (cudaError_t error = max_cooperative_blocks(grid_rounds_kernel, kGridThreads, 0, &most_blocks))
    return error;
  if (blocks > most_blocks) return cudaErrorCooperativeLaunchTooLarge;
  return launch_cooperative(grid_rounds_kernel, config, values, arrivals, rounds);
}

cudaError_t wait_forever(int blocks, const unsigned* flag) {
  return launch_cooperative(wait_forever_kernel, {dim3(blocks), dim3(2)}, flag);
}

cudaError_t record_order(int blocks, int threads, unsigned* counter, unsigned* order) {
  return launch(record_order_kernel, {dim3(blocks), dim3(threads)}, counter, order);
}

cudaError_t read_dynamic_shared(size_t bytes, float* out) {
  return launch(read_dynamic_shared_kernel, {dim3(1), dim3(1), bytes}, out);
}

cudaError_t do_nothing(dim3 grid, dim3 block, bool cooperative) {
  if (cooperative) return launch_cooperative(empty_kernel, {grid, block});
  return launch(empty_kernel, {grid, block});
}

}  // namespace gcv::emulator_test
