// The register tile of common/gemm.h: each step loads a row of B's panel and broadcasts an element of every
// row of A, so that two multiplications run per broadcast and the multipliers never wait.
#include "common/gemm.h"
#include "common/simd.h"

namespace gcv::GCV_ISA {
namespace {

// Rows of B on their way to the first-level cache: panels of long sums stream through it.
constexpr int64_t kAhead = 4;

// Where row i of A starts. Rows are reached in threes from one register, as x86 scales its index by 1 and 2.
template <bool kAdjoin, class T>
GCV_HD const T* row_of(const T* a, int64_t stride, int i) {
  return kAdjoin ? a + i : a + i / 3 * (3 * stride) + i % 3 * stride;
}

template <class T, int kRows, int kVectors, bool kAdjoin>
GCV_HD void add_products(const T* a, int64_t stride, const T* b, int64_t b_row, int64_t k,
                         Simd<T> (&sums)[kRows][kVectors]) {
  for (int64_t step = 0; step < k; ++step) {
    Simd<T> columns[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      columns[v] = load(b + v * kLanes<T>);
      __builtin_prefetch(b + kAhead * b_row + v * kLanes<T>);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Simd<T> element = splat(*row_of<kAdjoin>(a, stride, i));
      for (int v = 0; v < kVectors; ++v) sums[i][v] = multiply_add<T>(element, columns[v], sums[i][v]);
    }
    a += kAdjoin ? stride : 1;
    b += b_row;
  }
}

// kAdjoin: the rows of A lie beside each other, else its columns do.
template <class T, int kRows, int kVectors, bool kAdjoin>
void run(const GemmTile<T>& t) {
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) __builtin_prefetch(t.c + i * t.c_row + v * kLanes<T>, 1);
  }
  Simd<T> sums[kRows][kVectors] = {};
  const int64_t stride = kAdjoin ? t.a.column : t.a.row;
  for (int64_t s = 0; s < t.segments.count; ++s) {
    const GemmSegment& at = t.segments.data[s];
    add_products<T, kRows, kVectors, kAdjoin>(t.a.data + at.a, stride, t.b + at.b, t.b_row, at.k, sums);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      T* c = t.c + i * t.c_row + v * kLanes<T>;
      store(c, t.add ? load(c) + sums[i][v] : sums[i][v]);
    }
  }
}

template <int kVectors, bool kAdjoin, class T, int kRows = kGemmRows>
void choose_rows(const GemmTile<T>& t) {
  if (t.rows == kRows) return run<T, kRows, kVectors, kAdjoin>(t);
  if constexpr (kRows > 1) choose_rows<kVectors, kAdjoin, T, kRows - 1>(t);
}

template <class T>
void choose(const GemmTile<T>& t) {
  const bool adjoin = t.a.row == 1;
  if (t.vectors == 1) return adjoin ? choose_rows<1, true>(t) : choose_rows<1, false>(t);
  if (t.vectors == 3)
    return adjoin ? choose_rows<3, true, T, kGemmRowsOfThree>(t)
                  : choose_rows<3, false, T, kGemmRowsOfThree>(t);
  return adjoin ? choose_rows<2, true>(t) : choose_rows<2, false>(t);
}

}  // namespace

void gemm_tile(const GemmTile<float>& tile) { choose(tile); }
void gemm_tile(const GemmTile<double>& tile) { choose(tile); }

}  // namespace gcv::GCV_ISA
