// What the CUDA kernels of RoI align share: channels that a thread works on together, and the samples of a
// bin.
#pragma once

#include "common/cuda.h"
#include "roi/roi_align_cuda.h"

namespace gcv {
namespace {

// With bounds on resident blocks, that the compiler does not trade registers for spills.
constexpr int kThreads = 256;

GCV_HD int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Kernels go through their items in steps of the grid, so any number of them will do.
inline dim3 grid_of(int64_t items) { return dim3(unsigned(items < INT32_MAX ? items : INT32_MAX)); }

// The files are compiled without contraction.
__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) { return fma(a, b, c); }

// Channels of one place that a thread loads together; a vector of 16 bytes where memory allows.
template <class Element>
constexpr int kVectorPack = int(16 / sizeof(Element));

template <class Element>
struct alignas(16) Vector {
  Element v[kVectorPack<Element>];
};

// Whether vectors of channels can be loaded from [., C, ., .] of these strides.
template <class Element>
bool has_vectors(const void* data, const int64_t (&strides)[4], int64_t channels) {
  constexpr int kPack = kVectorPack<Element>;
  return strides[1] == 1 && channels % kPack == 0 && strides[0] % kPack == 0 && strides[2] % kPack == 0 &&
         strides[3] % kPack == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0;
}

// `count` channels, `stride` elements apart, widened; neighbours that make whole vectors with kVectors.
// Channels that are not there repeat the first.
template <bool kVectors, int kPack, class Element, class T>
__device__ __forceinline__ void load_pack(const Element* from, int64_t stride, int64_t count,
                                          T (&to)[kPack]) {
  if constexpr (kVectors) {
#pragma unroll
    for (int i = 0; i < kPack; i += kVectorPack<Element>) {
      const Vector<Element> vector = *reinterpret_cast<const Vector<Element>*>(from + i);
#pragma unroll
      for (int j = 0; j < kVectorPack<Element>; ++j) to[i + j] = widen(vector.v[j]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kPack; ++i) to[i] = widen(from[i < count ? i * stride : 0]);
  }
}

// Vectors where the channels are neighbours and make whole ones.
template <int kPack, class Element, class T>
__device__ __forceinline__ void store_pack(const T (&from)[kPack], int64_t stride, int64_t count,
                                           bool vectors, Element* to) {
  if constexpr (kPack % kVectorPack<Element> == 0) {
    if (vectors) {
#pragma unroll
      for (int i = 0; i < kPack; i += kVectorPack<Element>) {
        Vector<Element> vector;
#pragma unroll
        for (int j = 0; j < kVectorPack<Element>; ++j) narrow(from[i + j], vector.v[j]);
        *reinterpret_cast<Vector<Element>*>(to + i) = vector;
      }
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i) {
    if (i < count) narrow(from[i], to[i * stride]);
  }
}

// The greatest sample of a bin, and which it is; y is negative where that is none on the map.
template <class T>
struct BestSample {
  T value;
  int32_t y, x;
};

// Samples off the map count as zeros, in their places of the order.
template <class T, class Element>
__device__ __forceinline__ BestSample<T> best_sample(const RoiPlace<T>& place, const RoiAlignMap& map,
                                                     const Element* channel, int64_t ph, int64_t pw) {
  const RoiSampleRange ys = roi_samples_near(place.y, ph, map.height);
  const RoiSampleRange xs = roi_samples_near(place.x, pw, map.width);
  const int64_t y_count = int64_t(place.y.count), x_count = int64_t(place.x.count);
  BestSample<T> best{T(0), -1, -1};
  if (y_count == 0 || x_count == 0) return best;
  best.value = -T(INFINITY);
  bool any = false;
  const auto offer = [&](T value, int64_t y, int64_t x) {
    if (!any || roi_is_better(value, best.value)) best = {value, int32_t(y), int32_t(x)};
    any = true;
  };
  if (ys.first > 0) offer(T(0), -1, -1);
  for (int64_t iy = ys.first; iy < ys.last; ++iy) {
    const RoiSample<T> y = roi_sample(place.y, ph, iy, map.height);
    if (!y.inside || xs.first > 0) offer(T(0), -1, -1);
    if (!y.inside) continue;
    const Element* low = channel + y.low * map.strides[2];
    const Element* high = channel + y.high * map.strides[2];
    for (int64_t ix = xs.first; ix < xs.last; ++ix) {
      const RoiSample<T> x = roi_sample(place.x, pw, ix, map.width);
      if (!x.inside) {
        offer(T(0), -1, -1);
        continue;
      }
      const int64_t left = x.low * map.strides[3], right = x.high * map.strides[3];
      const T at_left =
          roi_interpolate(T(widen(low[left])), T(widen(high[left])), y.low_weight, y.high_weight);
      const T at_right =
          roi_interpolate(T(widen(low[right])), T(widen(high[right])), y.low_weight, y.high_weight);
      offer(roi_interpolate(at_left, at_right, x.low_weight, x.high_weight), iy, ix);
    }
    if (xs.last < x_count) offer(T(0), -1, -1);
  }
  if (ys.last < y_count || !any) offer(T(0), -1, -1);
  return best;
}

}  // namespace
}  // namespace gcv
