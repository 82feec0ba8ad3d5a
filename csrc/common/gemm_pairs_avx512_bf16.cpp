// The tile of pairs by AVX512-BF16's dot products: as gemm_tile_cpu.cpp, with a pair of A's row for an
// element.
#include <immintrin.h>
#include <string.h>

#include "common/gemm_pairs.h"

namespace gcv::avx512_bf16 {
namespace {

constexpr int kRows = 12;  // at a time

static inline __attribute__((always_inline)) __m512bh pairs_at(const BFloat16* p) {
  return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p));
}

static inline __attribute__((always_inline)) __m512bh everywhere(const BFloat16* pair) {
  int32_t bits;
  memcpy(&bits, pair, sizeof bits);
  return reinterpret_cast<__m512bh>(_mm512_set1_epi32(bits));
}

template <int kCount>
void run(const GemmPairTile& t, int first) {
  __m512 sums[kCount][2];
  float* c = t.c + first * t.c_row;
  for (int i = 0; i < kCount; ++i) {
    for (int v = 0; v < 2; ++v)
      sums[i][v] = t.add ? _mm512_loadu_ps(c + i * t.c_row + 16 * v) : _mm512_setzero_ps();
  }
  for (int64_t s = 0; s < t.segments.count; ++s) {
    const GemmSegment& at = t.segments.data[s];
    const BFloat16* a = t.a + at.a + first * t.a_row;
    const BFloat16* b = t.b + at.b;
    for (int64_t k = 0; k < at.k; k += 2, b += 2 * kPairColumns) {
      const __m512bh left = pairs_at(b), right = pairs_at(b + kPairColumns);
#pragma GCC unroll 16
      for (int i = 0; i < kCount; ++i) {
        const __m512bh pair = everywhere(a + i / 3 * (3 * t.a_row) + i % 3 * t.a_row + k);
        sums[i][0] = _mm512_dpbf16_ps(sums[i][0], pair, left);
        sums[i][1] = _mm512_dpbf16_ps(sums[i][1], pair, right);
      }
    }
  }
  for (int i = 0; i < kCount; ++i) {
    for (int v = 0; v < 2; ++v) _mm512_storeu_ps(c + i * t.c_row + 16 * v, sums[i][v]);
  }
}

template <int kCount = kRows>
void choose(const GemmPairTile& t, int first, int count) {
  if (count == kCount) return run<kCount>(t, first);
  if constexpr (kCount > 1) choose<kCount - 1>(t, first, count);
}

}  // namespace

void gemm_pair_tile(const GemmPairTile& t) {
  for (int first = 0; first < t.rows; first += kRows)
    choose(t, first, t.rows - first < kRows ? t.rows - first : kRows);
}

void narrow_sums(const float* sums, int64_t count, BFloat16* to) {
  for (int64_t i = 0; i < count; i += 32) {
    const __m512bh rounded = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(sums + i + 16), _mm512_loadu_ps(sums + i));
    memcpy(to + i, &rounded, sizeof rounded);
  }
}

}  // namespace gcv::avx512_bf16
