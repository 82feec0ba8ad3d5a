// Runs row maths (box_rows.h) over rows on the device, a thread per row. Included by *_cuda.cu only.
#pragma once

#include "boxes/box_rows.h"
#include "common/cuda.h"

namespace gcv {
namespace {

constexpr int kRowThreads = 256;

template <class Element>
struct alignas(4 * sizeof(Element)) FourNumbers {
  Element v[4];
};

// Rows of four or eight neighbours, where every one is aligned as four: a load or store takes four at a time.
template <int kWidth, class Element>
bool in_fours(const void* data, int64_t stride) {
  return kWidth % 4 == 0 && stride % 4 == 0 &&
         reinterpret_cast<uintptr_t>(data) % sizeof(FourNumbers<Element>) == 0;
}

template <class Element>
struct RowInput {
  const Element* data;
  int64_t stride, repeat;
  // 1, but not for the compiler to know: g++ 12, which the emulator builds with, else merges both ways of
  // loading a row and takes it for aligned in either.
  int step;
  bool in_fours;
};

template <class Element>
struct RowOutput {
  Element* data;
  bool in_fours;
};

template <class Maths, class Element>
struct RowMap {
  RowInput<Element> in[Maths::In::kCount];
  RowOutput<Element> out[Maths::Out::kCount];
  typename Maths::Constants constants;
  int64_t n;
};

template <int kWidth, class Element, class T>
__device__ __forceinline__ void load_row(const RowInput<Element>& from, int64_t row, T* to) {
  const Element* numbers = from.data + (from.repeat == 1 ? row : row / from.repeat) * from.stride;
  if (from.in_fours) {
    for (int k = 0; k + 4 <= kWidth; k += 4) {
      const auto four = *reinterpret_cast<const FourNumbers<Element>*>(numbers + k);
      for (int j = 0; j < 4; ++j) to[k + j] = widen(four.v[j]);
    }
  } else {
    for (int k = 0; k < kWidth; ++k) to[k] = widen(numbers[k * from.step]);
  }
}

template <int kWidth, class Element, class T>
__device__ __forceinline__ void store_row(const T* from, const RowOutput<Element>& to, int64_t row) {
  Element* numbers = to.data + row * kWidth;
  if (to.in_fours) {
    for (int k = 0; k + 4 <= kWidth; k += 4) {
      FourNumbers<Element> four;
      for (int j = 0; j < 4; ++j) narrow(from[k + j], four.v[j]);
      *reinterpret_cast<FourNumbers<Element>*>(numbers + k) = four;
    }
  } else {
    for (int k = 0; k < kWidth; ++k) narrow(from[k], numbers[k]);
  }
}

template <class Element, class T, int... kWidths>
__device__ __forceinline__ void load_rows(Widths<kWidths...>, const RowInput<Element>* from, int64_t row,
                                          T* to) {
  ((load_row<kWidths>(*from++, row, to), to += kWidths), ...);
}

template <class Element, class T, int... kWidths>
__device__ __forceinline__ void store_rows(Widths<kWidths...>, const T* from, const RowOutput<Element>* to,
                                           int64_t row) {
  ((store_row<kWidths>(from, *to++, row), from += kWidths), ...);
}

template <class Maths, class Element>
__global__ void __launch_bounds__(kRowThreads) row_map_kernel(RowMap<Maths, Element> map) {
  using T = typename Compute<Element>::type;
  const int64_t row = int64_t(blockIdx.x) * kRowThreads + threadIdx.x;
  if (row >= map.n) return;
  T in[Maths::In::kTotal], out[Maths::Out::kTotal];
  load_rows(typename Maths::In{}, map.in, row, in);
  Maths::apply(map.constants, in, out);
  store_rows(typename Maths::Out{}, out, map.out, row);
}

inline dim3 blocks_of(int64_t items, int threads) { return dim3(unsigned((items + threads - 1) / threads)); }

template <class Element, int... kWidths>
void describe(Widths<kWidths...>, const BoxRows* from, RowInput<Element>* to) {
  ((*to++ = {static_cast<const Element*>(from->data), from->stride, from->repeat, 1,
             in_fours<kWidths, Element>(from->data, from->stride)},
    ++from),
   ...);
}

template <class Element, int... kWidths>
void describe(Widths<kWidths...>, void* const* from, RowOutput<Element>* to) {
  ((*to++ = {static_cast<Element*>(*from), in_fours<kWidths, Element>(*from, kWidths)}, ++from), ...);
}

template <class Maths, class Element>
RowMap<Maths, Element> row_map(const typename Maths::Constants& constants,
                               const BoxRows (&in)[Maths::In::kCount], void* const (&out)[Maths::Out::kCount],
                               int64_t n) {
  RowMap<Maths, Element> map{};
  describe(typename Maths::In{}, in, map.in);
  describe(typename Maths::Out{}, out, map.out);
  map.constants = constants;
  map.n = n;
  return map;
}

// All rows of all results, from those of all arguments.
template <class Maths, class Element>
cudaError_t map_rows(const typename Maths::Constants& constants, const BoxRows (&in)[Maths::In::kCount],
                     void* const (&out)[Maths::Out::kCount], int64_t n, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  return launch(row_map_kernel<Maths, Element>, {blocks_of(n, kRowThreads), dim3(kRowThreads), 0, stream},
                row_map<Maths, Element>(constants, in, out, n));
}

}  // namespace
}  // namespace gcv
