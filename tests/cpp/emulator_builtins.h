// Kernels that call each CUDA built-in which the emulator provides, and where they leave the results.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace gcv::emulator_test {

struct WarpResults {
  unsigned lane[32];
  unsigned shuffle_from_5[32];
  unsigned shuffle_from_3_of_8[32];
  unsigned shuffle_up_2_of_8[32];
  unsigned shuffle_down_3[32];
  unsigned shuffle_xor_16[32];
  unsigned shuffle_xor_8_of_8[32];
  unsigned ballot_thirds[32];
  unsigned any_31[32];
  unsigned all_31[32];
  unsigned half_warp[32];
  double shuffled_double[32];
};

// Of a block of 10 x 5 threads.
struct BlockResults {
  int multiples_of_5;
  int any;
  int none;
  int all;
  int not_all;
};

constexpr int kAtomicThreads = 96;
struct AtomicResults {
  int sum;
  float float_sum;
  unsigned long long wide_sum;
  int most;
  int least;
  unsigned bits;
  int first;  // -1 before
  int winners;
  unsigned exchanged;
  unsigned exchange_sum;
  unsigned arrived;
  unsigned last;
};

struct ArithmeticResults {
  float min_with_nan;
  float max_with_nan;
  unsigned mixed_max;
  int negative_min;
  float product_minus_rounded;
  float fused;
  float quotient;
  double double_quotient;
  int population;
  int first_bit;
  int leading_zeros;
  unsigned float_bits;
  long long double_bits;
  float half;
  float bfloat;
  unsigned loaded;
  int warp_size;
};

cudaError_t run_warp(WarpResults* results);
cudaError_t run_block(BlockResults* results);
cudaError_t run_atomics(AtomicResults* results);
cudaError_t run_arithmetic(ArithmeticResults* results);

}  // namespace gcv::emulator_test
