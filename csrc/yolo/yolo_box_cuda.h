// One box's outputs of the network, as a thread reads them. Included by *_cuda.cu only.
#pragma once

#include "common/elements_cuda.h"
#include "yolo/yolo_maths.h"

namespace gcv {
namespace {

constexpr int kBoxThreads = 256;

// The blocks that are to be resident: ptxas, left to choose its number of registers, spills around its calls
// of division routines.
constexpr int kKeysBlocks = 4, kBackwardBlocks = 3;

template <class Element>
struct BoxOutputs {
  using T = ComputeOf<Element>;
  const YoloMaps& m;
  const YoloLevel& level;
  YoloPlace at;
  const Element* first;    // of the box
  const Element* classes;  // of its class 0

  __device__ __forceinline__ BoxOutputs(const YoloMaps& maps, int64_t image, const YoloPlace& place)
      : m(maps), level(maps.levels[place.level]), at(place) {
    const Element* cell = static_cast<const Element*>(level.map) + image * level.strides[0] +
                          at.row * level.strides[2] + at.column * level.strides[3];
    first = cell + yolo_first_channel(m, at.anchor) * level.strides[1];
    classes = cell + yolo_first_class(m, at.anchor) * level.strides[1];
  }

  __device__ __forceinline__ T value(int64_t channel) const {
    return widen(first[channel * level.strides[1]]);
  }
  __device__ __forceinline__ T output(int64_t class_id) const {
    return widen(classes[class_id * level.strides[1]]);
  }
  __device__ __forceinline__ T cell(int axis) const { return T(axis == 0 ? at.column : at.row); }
  __device__ __forceinline__ T stride() const { return T(level.stride); }
  __device__ __forceinline__ T unit(int axis) const { return yolo_unit<T>(m, level, at.anchor, axis); }
  __device__ __forceinline__ T confidence() const {
    return yolo_has_confidence(m.version) ? yolo_confidence(m.version, value(4)) : T(1);
  }
};

template <class T>
struct Distribution {
  T most, total, mean;
};

template <class Element>
__device__ __forceinline__ Distribution<ComputeOf<Element>> distribution(const BoxOutputs<Element>& box,
                                                                         int side) {
  using T = ComputeOf<Element>;
  const int64_t first = side * box.m.reg_max;
  T most = box.value(first), total = T(0), moment = T(0);
  for (int64_t b = 1; b < box.m.reg_max; ++b) most = larger(most, box.value(first + b));
  int64_t b = 0;  // there is always one: the compiler need not prepare for 0 / 0
  do yolo_add_bin(box.value(first + b), most, T(b), total, moment);
  while (++b < box.m.reg_max);
  return {most, total, exact::div(moment, total)};
}

// v8: one coordinate.
template <class Element>
__device__ __forceinline__ ComputeOf<Element> distance_side(const BoxOutputs<Element>& box, int side) {
  const auto distance = distribution(box, side).mean;
  const auto cell = box.cell(side % 2);
  return side < 2 ? yolo_low_side(cell, distance, box.stride())
                  : yolo_high_side(cell, distance, box.stride());
}

// The others: both coordinates along an axis.
template <class Element>
__device__ __forceinline__ void anchored_sides(const BoxOutputs<Element>& box, int axis,
                                               ComputeOf<Element>& low, ComputeOf<Element>& high) {
  const YoloVersion version = box.m.version;
  yolo_interval(yolo_centre(version, box.value(axis), box.cell(axis), box.stride()),
                yolo_length(version, box.value(2 + axis), box.unit(axis)), low, high);
}

template <class T>
struct Softmax {
  T most, total;
};

// `clean` is applied to each class's output.
template <class Element, class Clean>
__device__ __forceinline__ Softmax<ComputeOf<Element>> softmax(const BoxOutputs<Element>& box,
                                                               const Clean& clean) {
  using T = ComputeOf<Element>;
  T most = clean(box.output(0)), total = T(0);
  for (int64_t c = 1; c < box.m.classes; ++c) most = larger(most, clean(box.output(c)));
  for (int64_t c = 0; c < box.m.classes; ++c)
    total = exact::add(total, exponential(exact::sub(clean(box.output(c)), most)));
  return {most, total};
}

template <class T>
__device__ __forceinline__ T class_score(YoloVersion version, T confidence, T output,
                                         const Softmax<T>& shared) {
  return version == YoloVersion::v2 ? yolo_softmax_score(confidence, output, shared.most, shared.total)
                                    : yolo_score(version, confidence, output);
}

__device__ __forceinline__ int64_t own_index() { return int64_t(blockIdx.x) * kBoxThreads + threadIdx.x; }

template <class Params>
cudaError_t launch_per_item(void (*kernel)(Params), int64_t items, const Params& p, cudaStream_t stream) {
  const int64_t blocks = ceil_div<int64_t>(items, kBoxThreads);
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT32_MAX) return cudaErrorInvalidValue;
  return launch(kernel, {dim3(unsigned(blocks)), dim3(kBoxThreads), 0, stream}, p);
}

}  // namespace
}  // namespace gcv
