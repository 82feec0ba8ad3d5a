// Kernels that show what the emulator runs, and, with a planted bug, what it catches.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace gcv::emulator_test {

enum class Bug {
  none,
  missing_barrier,    // row_sum: part sums are read before all warps have written theirs
  unwritten_slot,     // row_sum: one warp never writes its part sum
  read_past_end,      // row_sum: reads one element behind the last row
  divergent_barrier,  // row_sum: half of the block waits at another __syncthreads
  early_exit,         // row_sum: one thread returns before the last barrier
  shared_index,       // row_sum: shared index off by one
  reused_shared,      // rotate: shared memory is overwritten while others still read it
  async_wait,         // tile_product: waits for one cp.async group too few
  block_race,         // histogram: blocks add to global memory without atomics
  not_co_resident,    // grid_rounds: a grid barrier in an ordinary launch
};

constexpr int kRowThreads = 256;
constexpr int kRotateThreads = 64;
constexpr int kHistogramThreads = 128;
constexpr int kTileRows = 16;
constexpr int kTileColumns = 8;

// sums[r] = sum of row r of x (rows x columns)
cudaError_t row_sum(Bug bug, const float* x, float* sums, int rows, int columns);

// One block; after `rounds` rounds, thread t holds what thread t + rounds began with.
cudaError_t rotate(Bug bug, const int* in, int* out, int rounds);

// histogram[b] += how many of the n values are b modulo bins; counts also how many are divisible by 3.
cudaError_t histogram(Bug bug, const int* values, int n, int bins, int* histogram, int* divisible);

// c (16x8, fp32) = a (16 x depth) * b (depth x 8), both row-major; depth is a multiple of 16.
cudaError_t tile_product(Bug bug, const __half* a, const __half* b, float* c, int depth);

// Every block adds its right neighbour's value to its own, `rounds` times, all blocks in step. `values` holds
// two buffers of `blocks` values, the first one filled; `arrivals` is zero.
cudaError_t grid_rounds(Bug bug, int blocks, unsigned* values, unsigned* arrivals, int rounds);
constexpr int kGridThreads = 64;

// Co-resident blocks that wait for a flag which nobody sets.
cudaError_t wait_forever(int blocks, const unsigned* flag);

// order[i] = which thread (of the whole grid) ran as the i-th
cudaError_t record_order(int blocks, int threads, unsigned* counter, unsigned* order);

cudaError_t read_dynamic_shared(size_t bytes, float* out);
cudaError_t do_nothing(dim3 grid, dim3 block, bool cooperative);

}  // namespace gcv::emulator_test
