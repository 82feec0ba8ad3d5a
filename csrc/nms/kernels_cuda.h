// What the CUDA kernels of the room share. Included by *_cuda.cu only.
#pragma once

#include "common/box.h"
#include "common/cuda.h"
#include "common/dtype.h"

namespace gcv {

constexpr int kTile = 64;  // boxes decided together: one 64-bit word of a pairwise mask
constexpr unsigned kFullWarp = 0xffffffffu;

template <class Integer>
GCV_HD constexpr Integer ceil_div(Integer a, Integer b) {
  return (a + b - 1) / b;
}

// In the type that decisions are computed in, aligned for 16-byte loads.
template <class T>
struct alignas(16) PackedBox : Box<T> {};

template <class Element>
struct alignas(4 * sizeof(Element)) FourElements {
  Element v[4];
};

template <class Element>
using ComputeOf = typename Compute<Element>::type;

// One box per row of any strides.
template <class Element>
struct StridedBoxes {
  const Element* data;
  int64_t box_stride;
  int64_t coord_stride;
  bool vector_loads;  // rows of four neighbours, aligned as one
};

template <class Element>
inline StridedBoxes<Element> strided_boxes(const void* data, int64_t box_stride, int64_t coord_stride) {
  const bool aligned = reinterpret_cast<uintptr_t>(data) % sizeof(FourElements<Element>) == 0;
  return {static_cast<const Element*>(data), box_stride, coord_stride,
          aligned && coord_stride == 1 && box_stride % 4 == 0};
}

template <class Element>
__device__ __forceinline__ PackedBox<ComputeOf<Element>> load_box(const StridedBoxes<Element>& boxes,
                                                                  int64_t index) {
  const Element* row = boxes.data + index * boxes.box_stride;
  FourElements<Element> four;
  if (boxes.vector_loads) {
    four = *reinterpret_cast<const FourElements<Element>*>(row);
  } else {
    for (int i = 0; i < 4; ++i) four.v[i] = row[i * boxes.coord_stride];
  }
  PackedBox<ComputeOf<Element>> box;
  box.x1 = widen(four.v[0]);
  box.y1 = widen(four.v[1]);
  box.x2 = widen(four.v[2]);
  box.y2 = widen(four.v[3]);
  return box;
}

// Round to nearest even.
template <class Element>
__device__ __forceinline__ Element narrow(ComputeOf<Element> x) {
  if constexpr (std::is_same<Element, Half>::value) {
    return Half{__half_as_ushort(__float2half_rn(x))};
  } else if constexpr (std::is_same<Element, BFloat16>::value) {
    return BFloat16{__bfloat16_as_ushort(__float2bfloat16_rn(x))};
  } else {
    return x;
  }
}

// The greedy pass inside one tile, by one warp. The lane holds, for box `lane` (low) and box `lane + 32`
// (high) of the tile, the earlier boxes of the tile that suppress it if they are kept. Returns the kept boxes
// among `open`. Every round decides all boxes whose earlier suppressors are decided: as many rounds as the
// longest chain, not 64.
__device__ __forceinline__ uint64_t greedy_tile(uint64_t low, uint64_t high, uint64_t open) {
  const uint64_t low_bit = uint64_t(1) << lane_id(), high_bit = low_bit << 32;
  const auto vote = [&](bool low_vote, bool high_vote) {
    const uint64_t lower = __ballot_sync(kFullWarp, low_vote);
    return lower | uint64_t(__ballot_sync(kFullWarp, high_vote)) << 32;
  };
  uint64_t kept = 0;
  while (open != 0) {
    kept |= vote((open & low_bit) != 0 && (low & open) == 0, (open & high_bit) != 0 && (high & open) == 0);
    open &= ~kept;
    open &= ~vote((low & kept) != 0, (high & kept) != 0);
  }
  return kept;
}

// Calls f with a value of the element type that `dtype` names.
template <class F>
inline cudaError_t with_element(DType dtype, F f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::f16:
      return f(Half{});
    case DType::bf16:
      return f(BFloat16{});
  }
  return cudaErrorInvalidValue;
}

}  // namespace gcv
