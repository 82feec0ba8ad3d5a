// Blocks of neighbouring pixels as arrays over which loops vectorise. Only *_cpu.cpp files include this.
#pragma once

#include "common/dtype_arrays.h"
#include "mixture/mixture.h"

namespace gcv {
namespace {

inline constexpr int kLane = int(kMixtureBlock);

struct PixelBlock {
  int64_t image, first, count, row, column, width;

  // Block `index` of batch * mixture_blocks(m).
  static PixelBlock of(const MixtureMaps& m, int64_t index) {
    const int64_t per_image = mixture_blocks(m), image = index / per_image;
    const int64_t first = (index - image * per_image) * kMixtureBlock;
    const int64_t rest = mixture_pixels(m) - first;
    return {image,           first,           rest < kMixtureBlock ? rest : kMixtureBlock,
            first / m.width, first % m.width, m.width};
  }

  int64_t start(const int64_t (&strides)[4], int64_t channel) const {
    return image * strides[0] + channel * strides[1];
  }

  bool is_dense(const int64_t (&strides)[4]) const {
    return strides[3] == 1 && (strides[2] == width || column + count <= width);
  }

  // Calls f(lane, offset from the channel's start) pixel by pixel.
  template <class F>
  void each(const int64_t (&strides)[4], const F& f) const {
    int64_t y = row, x = column;
    for (int64_t i = 0; i < count; ++i) {
      f(i, y * strides[2] + x * strides[3]);
      if (++x < width) continue;
      x = 0;
      ++y;
    }
  }

  // A channel's pixels, and after them zeros.
  template <class Element, class T>
  void read(const MixtureArray& array, int64_t channel, T (&to)[kLane]) const {
    const auto* from = static_cast<const Element*>(array.data) + start(array.strides, channel);
    if (is_dense(array.strides)) {
      widen_all(from + row * array.strides[2] + column, count, to);
    } else {
      each(array.strides, [&](int64_t i, int64_t at) { to[i] = widen(from[at]); });
    }
    for (int64_t i = count; i < kLane; ++i) to[i] = T(0);
  }

  template <class Element, class T>
  void write(const T (&from)[kLane], void* data, const int64_t (&strides)[4], int64_t channel) const {
    auto* to = static_cast<Element*>(data) + start(strides, channel);
    if (is_dense(strides)) {
      narrow_all(from, count, to + row * strides[2] + column);
    } else {
      each(strides, [&](int64_t i, int64_t at) { narrow(from[i], to[at]); });
    }
  }
};

}  // namespace
}  // namespace gcv
