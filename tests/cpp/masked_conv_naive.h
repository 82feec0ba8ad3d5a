// Convolutions over taps by plain loops over a mask, in double, and the lists of taps of masks with colour
// groups.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "masked_conv/tap_conv.h"

namespace gcv_test {

// Type B in raster order; type A does not see its own colour at the centre, B does.
struct TapMask {
  int64_t in, out, height, width;  // channels, and sides of the kernel
  int64_t groups, dilation;
  bool sees_own;
  bool mirrored;  // left and right, top and bottom

  int64_t places() const { return height * width; }

  bool sees(int64_t o, int64_t c, int64_t place) const {
    if (mirrored) place = places() - 1 - place;
    const int64_t centre = height / 2 * width + width / 2;
    if (place != centre) return place < centre;
    const int64_t own = o / (out / groups), other = c / (in / groups);
    return other < own || (sees_own && other == own);
  }
};

// The lists of groups of output channels; transposed, those of the gradient of the input.
struct TapLists {
  std::vector<std::vector<gcv::ConvTap>> taps;
  std::vector<gcv::ConvGroup> groups;

  TapLists(const TapMask& m, bool transposed) {
    const int64_t outs = transposed ? m.in : m.out, ins = transposed ? m.out : m.in, size = outs / m.groups;
    taps.resize(size_t(m.groups));
    for (int64_t g = 0; g < m.groups; ++g) {
      for (int64_t i = 0; i < m.places(); ++i) {
        const int64_t place = transposed ? m.places() - 1 - i : i;
        int64_t begin = ins, end = 0;
        for (int64_t c = 0; c < ins; ++c) {
          const bool seen = transposed ? m.sees(c, g * size, place) : m.sees(g * size, c, place);
          if (!seen) continue;
          begin = begin < c ? begin : c;
          end = c + 1;
        }
        const int64_t sign = transposed ? -m.dilation : m.dilation;
        if (begin < end)
          taps[size_t(g)].push_back({sign * (place / m.width - m.height / 2),
                                     sign * (place % m.width - m.width / 2), place, begin, end});
      }
    }
    for (int64_t g = 0; g < m.groups; ++g)
      groups.push_back({g * size, (g + 1) * size, taps[size_t(g)].data(), int64_t(taps[size_t(g)].size())});
  }
};

template <class Element>
struct Maps {
  int64_t images, channels, height, width;
  int64_t strides[4];
  std::vector<Element> values;

  Maps(int64_t n, int64_t c, int64_t h, int64_t w, bool channels_last)
      : images(n), channels(c), height(h), width(w), values(size_t(n * c * h * w)) {
    const int64_t nchw[4] = {c * h * w, h * w, w, 1}, nhwc[4] = {c * h * w, 1, w * c, c};
    for (int d = 0; d < 4; ++d) strides[d] = channels_last ? nhwc[d] : nchw[d];
  }

  // With a gap behind every number.
  Maps spaced() const {
    Maps result = *this;
    for (int64_t& stride : result.strides) stride *= 2;
    result.values.resize(2 * values.size());
    return result;
  }

  gcv::ConvMaps maps() { return {values.data(), {strides[0], strides[1], strides[2], strides[3]}}; }

  Element& at(int64_t n, int64_t c, int64_t y, int64_t x) {
    return values[size_t(n * strides[0] + c * strides[1] + y * strides[2] + x * strides[3])];
  }

  double operator()(int64_t n, int64_t c, int64_t y, int64_t x) const {
    if (y < 0 || x < 0 || y >= height || x >= width) return 0;
    return double(
        gcv::widen(values[size_t(n * strides[0] + c * strides[1] + y * strides[2] + x * strides[3])]));
  }
};

// Calls run(o, c, place, dy, dx) for what the mask lets through.
template <class Run>
void for_each_seen(const TapMask& m, const Run& run) {
  for (int64_t o = 0; o < m.out; ++o) {
    for (int64_t c = 0; c < m.in; ++c) {
      for (int64_t place = 0; place < m.places(); ++place) {
        if (m.sees(o, c, place))
          run(o, c, place, m.dilation * (place / m.width - m.height / 2),
              m.dilation * (place % m.width - m.width / 2));
      }
    }
  }
}

}  // namespace gcv_test
