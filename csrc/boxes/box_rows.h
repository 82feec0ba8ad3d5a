// Tensors of boxes as kernels see them, and what a kernel that goes row by row says of itself.
#pragma once

#include <cstdint>

#include "common/dtype.h"

namespace gcv {

// Rows of neighbouring numbers. `repeat` rows of the work in a row read the same one.
struct BoxRows {
  const void* data;
  int64_t stride;  // from row to row, in elements
  int64_t repeat = 1;
};

// How many numbers a row of each argument, or of each result, has.
template <int... kWidths>
struct Widths {
  static constexpr int kCount = sizeof...(kWidths);
  static constexpr int kTotal = (kWidths + ...);
};

// Row maths is a template <class T> struct with
//   In, Out: the Widths of the rows that it reads and writes,
//   Constants: what is the same for all rows,
//   apply(constants, in, out): the rows of all arguments, and of all results, one after another.
// CPU (row_map_cpu.h) and CUDA (row_map_cuda.h) run it over all rows.

}  // namespace gcv
