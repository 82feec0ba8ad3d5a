// What the CUDA kernels of the room share. Included by *_cuda.cu only.
#pragma once

#include "common/greedy_tile_cuda.h"

namespace gcv {

template <class Element>
struct alignas(4 * sizeof(Element)) FourElements {
  Element v[4];
};

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

}  // namespace gcv
