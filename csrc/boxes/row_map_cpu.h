// Runs row maths (box_rows.h) over rows on the CPU: blocks of rows are turned into one array per number, over
// which the maths is a plain loop that the compiler vectorises. Included by *_cpu.cpp only.
#pragma once

#include "boxes/box_rows.h"
#include "common/dtype_arrays.h"

namespace gcv {
namespace {

constexpr int kBlockRows = 64;

template <class T, int kWidth>
struct alignas(64) RowBlock {
  T numbers[kWidth][kBlockRows];
};

template <int kWidth, class Element, class T>
inline __attribute__((always_inline)) void read_each(const Element* from, int64_t stride, int rows,
                                                     T (*to)[kBlockRows]) {
  for (int i = 0; i < rows; ++i) {
    for (int k = 0; k < kWidth; ++k) to[k][i] = widen(from[stride * i + k]);
  }
}

// With a constant stride it vectorises.
template <int kWidth, class Element, class T>
inline __attribute__((always_inline)) void read_dense(const Element* from, int rows, T (*to)[kBlockRows]) {
  if constexpr (kConvertsVectors<Element>) {
    T wide[kWidth * kBlockRows];
    widen_all(from, kWidth * rows, wide);
    read_each<kWidth>(wide, kWidth, rows, to);
  } else {
    read_each<kWidth>(from, kWidth, rows, to);
  }
}

// Every row of the source fills a run of rows of the block.
template <int kWidth, class Element, class T>
void read_repeated(const BoxRows& from, int64_t first, int rows, T (*to)[kBlockRows]) {
  int64_t source = first / from.repeat, left = from.repeat - first % from.repeat;
  for (int i = 0; i < rows; ++source, left = from.repeat) {
    const auto* row = static_cast<const Element*>(from.data) + source * from.stride;
    const int end = int(i + left < rows ? i + left : rows);
    for (int k = 0; k < kWidth; ++k) {
      const T number = widen(row[k]);
      for (int j = i; j < end; ++j) to[k][j] = number;
    }
    i = end;
  }
}

template <int kWidth, class Element, class T>
inline __attribute__((always_inline)) void read_rows(const BoxRows& from, int64_t first, int rows,
                                                     T (*to)[kBlockRows]) {
  const auto* row = static_cast<const Element*>(from.data) + first * from.stride;
  if (from.repeat != 1) {
    read_repeated<kWidth, Element>(from, first, rows, to);
  } else if (from.stride == kWidth) {
    read_dense<kWidth>(row, rows, to);
  } else {
    read_each<kWidth>(row, from.stride, rows, to);
  }
}

template <int kWidth, class Element, class T>
inline __attribute__((always_inline)) void write_rows(const T (*from)[kBlockRows], int rows, Element* to) {
  if constexpr (kConvertsVectors<Element>) {
    T wide[kWidth * kBlockRows];
    write_rows<kWidth>(from, rows, wide);
    narrow_all(wide, kWidth * rows, to);
  } else {
    for (int i = 0; i < rows; ++i) {
      for (int k = 0; k < kWidth; ++k) narrow(from[k][i], to[kWidth * i + k]);
    }
  }
}

template <class Element, class T, int... kWidths>
inline __attribute__((always_inline)) void read_all(Widths<kWidths...>, const BoxRows* from, int64_t first,
                                                    int rows, T (*to)[kBlockRows]) {
  int k = 0;
  ((read_rows<kWidths, Element>(*from++, first, rows, to + k), k += kWidths), ...);
}

template <class Element, class T, int... kWidths>
inline __attribute__((always_inline)) void write_all(Widths<kWidths...>, const T (*from)[kBlockRows],
                                                     int64_t first, int rows, void* const* to) {
  int k = 0;
  ((write_rows<kWidths>(from + k, rows, static_cast<Element*>(*to++) + first * kWidths), k += kWidths), ...);
}

template <class Maths, class T, int kIn, int kOut>
inline __attribute__((always_inline)) void apply_rows(const typename Maths::Constants& constants,
                                                      const RowBlock<T, kIn>& in, int rows,
                                                      RowBlock<T, kOut>& out) {
  for (int i = 0; i < rows; ++i) {
    T from[kIn], to[kOut];
#pragma GCC unroll 16
    for (int k = 0; k < kIn; ++k) from[k] = in.numbers[k][i];
    Maths::apply(constants, from, to);
#pragma GCC unroll 16
    for (int k = 0; k < kOut; ++k) out.numbers[k][i] = to[k];
  }
}

// Rows [begin, end) of all results, from those of all arguments.
template <class Maths, class Element>
void map_rows(const typename Maths::Constants& constants, const BoxRows (&in)[Maths::In::kCount],
              void* const (&out)[Maths::Out::kCount], int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  RowBlock<T, Maths::In::kTotal> arguments;
  RowBlock<T, Maths::Out::kTotal> results;
  for (int64_t first = begin; first < end; first += kBlockRows) {
    const int rows = int(end - first < kBlockRows ? end - first : kBlockRows);
    read_all<Element>(typename Maths::In{}, in, first, rows, arguments.numbers);
    apply_rows<Maths>(constants, arguments, rows, results);
    write_all<Element>(typename Maths::Out{}, results.numbers, first, rows, out);
  }
}

}  // namespace
}  // namespace gcv
