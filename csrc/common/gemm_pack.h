// Brings factors into the order that the register tile of common/gemm.h reads. Only *_cpu.cpp files include
// this.
#pragma once

#include <string.h>

#include "common/dtype_arrays.h"
#include "common/gemm.h"
#include "common/gemm_pairs.h"
#include "common/transpose.h"

namespace gcv::GCV_ISA {
namespace {

template <class T>
constexpr int kPanel = kGemmVectors * kLanes<T>;

template <class T>
GCV_HD int vectors_for(int64_t columns) {
  return int((columns + kLanes<T> - 1) / kLanes<T>);
}

// A square of vectors of a matrix whose columns are dense.
template <class Element>
GCV_HD void transpose_square(const Element* from, int64_t column, ComputeOf<Element>* to, int64_t to_row) {
  using T = ComputeOf<Element>;
  Simd<T> v[kLanes<T>];
  for (int i = 0; i < kLanes<T>; ++i) v[i] = load_lanes(from + i * column);
  transpose<T>(v);
  for (int i = 0; i < kLanes<T>; ++i) store(to + i * to_row, v[i]);
}

// to[i * to_row + j] = from(i, j), for i < rows, j < columns, zero up to `width`. Rows of `from` may be
// dense, or its columns, or neither.
template <class Element>
void pack(const GemmMatrix<Element>& from, int64_t rows, int64_t columns, ComputeOf<Element>* to,
          int64_t to_row, int64_t width) {
  using T = ComputeOf<Element>;
  constexpr int64_t lanes = kLanes<T>;
  const bool squares = from.row == 1 && from.column != 1;
  const int64_t squared_rows = squares ? rows / lanes * lanes : 0;
  const int64_t squared_columns = squares ? columns / lanes * lanes : 0;
  for (int64_t j = 0; j < squared_columns; j += lanes) {
    for (int64_t i = 0; i < squared_rows; i += lanes)
      transpose_square(from.data + i + j * from.column, from.column, to + i * to_row + j, to_row);
  }
  for (int64_t i = 0; i < rows; ++i) {
    const Element* row = from.data + i * from.row;
    T* target = to + i * to_row;
    const int64_t first = i < squared_rows ? squared_columns : 0;
    if (from.column == 1) {
      widen_all(row, columns, target);
    } else {
      for (int64_t j = first; j < columns; ++j) target[j] = widen(row[j * from.column]);
    }
    for (int64_t j = columns; j < width; ++j) target[j] = 0;
  }
}

// A panel of pairs, zero up to kPairColumns and to a multiple of kPairDepth.

// Rows [skipped, skipped + rows) of a block of kPairDepth, zero elsewhere.
static inline void pack_pair_block(const GemmMatrix<BFloat16>& from, int64_t skipped, int64_t rows,
                                   int64_t columns, BFloat16* block) {
  for (int64_t k = 0; k < kPairDepth; ++k) {
    BFloat16* to = block + k / 2 * 2 * kPairColumns + k % 2;
    const bool inside = k >= skipped && k < skipped + rows;
    const BFloat16* row = from.data + (k - skipped) * from.row;
    for (int64_t j = 0; j < kPairColumns; ++j)
      to[2 * j] = inside && j < columns ? row[j * from.column] : BFloat16{0};
  }
}

// Of rows that are dense, two at a time.
static inline void zip_rows(const BFloat16* from, int64_t row, int64_t rows, BFloat16* panel) {
  using Lanes = Simd<uint16_t>;
  constexpr std::make_integer_sequence<int, kLanes<uint16_t>> lanes{};
  for (int64_t k = 0; k < rows; k += 2, panel += 2 * kPairColumns) {
    Lanes first, second;
    memcpy(&first, from + k * row, sizeof first);
    memcpy(&second, from + (k + 1) * row, sizeof second);
    const Lanes low = zip_low<uint16_t>(first, second, lanes),
                high = zip_high<uint16_t>(first, second, lanes);
    memcpy(panel, &low, sizeof low);
    memcpy(panel + kPairColumns, &high, sizeof high);
  }
}

// Of columns that are dense, 16 at a time: a transpose of pairs, which floats carry.
static inline void turn_columns(const BFloat16* from, int64_t column, int64_t rows, BFloat16* panel) {
  for (int64_t k = 0; k < rows; k += 2 * kLanes<float>) {
    for (int64_t j = 0; j < kPairColumns; j += kLanes<float>) {
      Simd<float> v[kLanes<float>];
      for (int i = 0; i < kLanes<float>; ++i) memcpy(&v[i], from + (j + i) * column + k, sizeof v[i]);
      transpose<float>(v);
      for (int i = 0; i < kLanes<float>; ++i)
        memcpy(panel + ((k / 2 + i) * kPairColumns + j) * 2, &v[i], sizeof v[i]);
    }
  }
}

static inline void pack_pairs(const GemmMatrix<BFloat16>& from, int64_t rows, int64_t columns,
                              BFloat16* panel) {
  if constexpr (kLanes<uint16_t> == kPairColumns) {
    if (columns == kPairColumns && rows % kPairDepth == 0) {
      if (from.column == 1) return zip_rows(from.data, from.row, rows, panel);
      if (from.row == 1) return turn_columns(from.data, from.column, rows, panel);
    }
  }
  for (int64_t k = 0; k < rows; k += kPairDepth, panel += kPairDepth * kPairColumns) {
    const int64_t within = rows - k < kPairDepth ? rows - k : kPairDepth;
    pack_pair_block({from.data + k * from.row, from.row, from.column}, 0, within, columns, panel);
  }
}

}  // namespace
}  // namespace gcv::GCV_ISA
