// The tile of pairs by AMX: two tiles of 16 rows of A times two of 16 columns of B.
#include <immintrin.h>

#include <initializer_list>

#include "common/gemm_pairs.h"

namespace gcv::amx {
namespace {

constexpr int kSide = 16;  // rows of a tile, and columns of one that holds sums

struct alignas(64) Configuration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// What the thread's tiles are configured for, or 0.
struct TileRows {
  int upper = 0, lower = 0;
};
thread_local TileRows configured;

// Tiles 0 to 3 hold sums, 4 and 5 rows of A, 6 and 7 columns of B.
void configure(int upper, int lower) {
  if (configured.upper == upper && configured.lower == lower) return;
  configured = {upper, lower};
  Configuration c;
  for (int tile = 0; tile < 8; ++tile) c.row_bytes[tile] = 64;
  for (int tile : {0, 1, 4}) c.rows[tile] = uint8_t(upper);
  for (int tile : {2, 3, 5}) c.rows[tile] = uint8_t(lower);
  for (int tile : {6, 7}) c.rows[tile] = kSide;
  _tile_loadconfig(&c);
}

template <bool kLower>
void start_sums(const GemmPairTile& t) {
  if (!t.add) {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kLower) {
      _tile_zero(2);
      _tile_zero(3);
    }
    return;
  }
  const int64_t row = t.c_row * int64_t(sizeof(float));
  _tile_loadd(0, t.c, row);
  _tile_loadd(1, t.c + kSide, row);
  if constexpr (kLower) {
    _tile_loadd(2, t.c + kSide * t.c_row, row);
    _tile_loadd(3, t.c + kSide * t.c_row + kSide, row);
  }
}

template <bool kLower>
void store_sums(const GemmPairTile& t) {
  const int64_t row = t.c_row * int64_t(sizeof(float));
  _tile_stored(0, t.c, row);
  _tile_stored(1, t.c + kSide, row);
  if constexpr (kLower) {
    _tile_stored(2, t.c + kSide * t.c_row, row);
    _tile_stored(3, t.c + kSide * t.c_row + kSide, row);
  }
}

template <bool kLower>
void run(const GemmPairTile& t) {
  const int64_t a_row = t.a_row * int64_t(sizeof(BFloat16)), b_row = 2 * kPairColumns * sizeof(BFloat16);
  start_sums<kLower>(t);
  for (int64_t s = 0; s < t.segments.count; ++s) {
    const GemmSegment& at = t.segments.data[s];
    const BFloat16 *a = t.a + at.a, *b = t.b + at.b;
    for (int64_t k = 0; k < at.k; k += kPairDepth, a += kPairDepth, b += kPairDepth * kPairColumns) {
      _tile_loadd(6, b, b_row);
      _tile_loadd(4, a, a_row);
      _tile_loadd(7, b + 2 * kSide, b_row);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      if constexpr (kLower) {
        _tile_loadd(5, a + kSide * t.a_row, a_row);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
  }
  store_sums<kLower>(t);
}

}  // namespace

void gemm_pair_tile(const GemmPairTile& t) {
  const int upper = t.rows < kSide ? t.rows : kSide, lower = t.rows - upper;
  configure(upper, lower > 0 ? lower : kSide);
  if (lower > 0) {
    run<true>(t);
  } else {
    run<false>(t);
  }
}

void release_tiles() {
  if (configured.upper != 0) _tile_release();
  configured = {};
}

}  // namespace gcv::amx
