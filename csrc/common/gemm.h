// Products of matrices, for kernels that cannot call a BLAS. Free of torch.
//
// The unit is a register tile: a few rows of A times a panel of B, summed over segments that may lie
// anywhere. So a convolution is a product without a copy of its windows: its rows are pixels, its segments
// are taps.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/dtype.h"
#include "common/isa.h"

namespace gcv {

// One stretch of a sum: `k` columns of A from `a` on, and as many rows of B from `b` on. Both count elements
// from where the tile's pointers stand, so that tiles share their segments.
struct GemmSegment {
  int64_t a, b, k;
};

struct GemmSegments {
  const GemmSegment* data;
  int64_t count;
};

// Element (i, k) lies at data[i * row + k * column].
template <class T>
struct GemmMatrix {
  const T* data;
  int64_t row, column;
};

// C[i, j] = or += the sum over segments and k of A[i, k] B[k, j], for up to kGemmRows rows and kGemmVectors
// vectors of columns, or up to kGemmRowsOfThree rows and three vectors. One of A's strides is 1. Each sum
// runs through its segments in order, whatever the tile's size.
template <class T>
struct GemmTile {
  GemmMatrix<T> a;
  const T* b;
  int64_t b_row;
  GemmSegments segments;
  T* c;
  int64_t c_row;
  int rows, vectors;
  bool add;
};

// C[m, n] = A[m, k] B[k, n], with sums and C in float, or in double for doubles; rows of C are dense and
// `c_row` apart. A and B may be transposed.
struct GemmParams {
  const void* a;
  int64_t a_row, a_column;
  const void* b;
  int64_t b_row, b_column;
  void* c;
  int64_t c_row;
  int64_t m, n, k;
  DType dtype;
};

// How many threads share the product decides how it is cut, but no bit of it.
struct GemmCuts {
  int64_t row_blocks, column_blocks;
};

GCV_PER_ISA(GemmCuts, gemm_cuts_cpu, (const GemmParams& p, int64_t threads), (p, threads))
GCV_PER_ISA(size_t, gemm_scratch_cpu, (const GemmParams& p, const GemmCuts& cuts), (p, cuts))
// For blocks [begin, end) of row_blocks * column_blocks.
GCV_PER_ISA(void, gemm_cpu,
            (const GemmParams& p, const GemmCuts& cuts, void* scratch, int64_t begin, int64_t end),
            (p, cuts, scratch, begin, end))

GCV_PER_ISA(void, gemm_tile, (const GemmTile<float>& tile), (tile))
GCV_PER_ISA(void, gemm_tile, (const GemmTile<double>& tile), (tile))

#ifdef GCV_ISA
namespace GCV_ISA {

#if defined(__AVX512F__)
inline constexpr int kGemmRows = 12;  // 24 of 32 registers hold sums
#elif defined(__AVX2__)
inline constexpr int kGemmRows = 6;  // 12 of 16
#else
inline constexpr int kGemmRows = 4;
#endif
inline constexpr int kGemmVectors = 2;
inline constexpr int kGemmRowsOfThree = kGemmRows * 2 / 3;

}  // namespace GCV_ISA
#endif

}  // namespace gcv
