// Rows of maps to and from rows of pixels, whose channels lie beside each other. Only *_cpu.cpp files of the
// room include this.
#pragma once

#include <string.h>

#include <type_traits>

#include "common/dtype_arrays.h"
#include "common/transpose.h"

namespace gcv::GCV_ISA {
namespace {

// A row of a map: `channel` and `pixel` are strides.
template <class Element>
struct MapRow {
  Element* data;
  int64_t channel, pixel;
};

GCV_HD int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The first `count` lanes of a vector.
template <class Element>
GCV_HD Simd<ComputeOf<Element>> load_part(const Element* from, int64_t count) {
  using T = ComputeOf<Element>;
  if (count == kLanes<T>) return load_lanes(from);
  T wide[kLanes<T>] = {};
  widen_all(from, count, wide);
  return load(wide);
}

template <class T>
GCV_HD void store_part(Simd<T> v, int64_t count, void* to) {
  if (count == kLanes<T>) {
    memcpy(to, &v, sizeof v);
  } else {
    memcpy(to, &v, size_t(count) * sizeof(T));
  }
}

// A square of channels and pixels whose sides are vectors, or less.
template <class Element>
GCV_HD void turn_square(const MapRow<const Element>& from, int64_t channels, int64_t pixels,
                        ComputeOf<Element>* to, int64_t to_pixel) {
  using T = ComputeOf<Element>;
  Simd<T> v[kLanes<T>] = {};
  for (int64_t i = 0; i < channels; ++i) v[i] = load_part(from.data + i * from.channel, pixels);
  transpose<T>(v);
  for (int64_t i = 0; i < pixels; ++i) store_part<T>(v[i], channels, to + i * to_pixel);
}

GCV_HD Simd<uint16_t> load_part_pairs(const BFloat16* from, int64_t count) {
  Simd<uint16_t> v{};
  if (count == kLanes<uint16_t>) {
    memcpy(&v, from, sizeof v);
  } else {
#ifdef __AVX512BW__
    v = reinterpret_cast<Simd<uint16_t>>(_mm512_maskz_loadu_epi16((uint32_t(1) << count) - 1, from));
#else
    memcpy(&v, from, size_t(count) * sizeof(uint16_t));
#endif
  }
  return v;
}

// bf16 that is not widened: rows of two channels are zipped, then pairs turn as floats do.
GCV_HD void turn_square(const MapRow<const BFloat16>& from, int64_t channels, int64_t pixels, BFloat16* to,
                        int64_t to_pixel) {
  constexpr int count = kLanes<float>;
  constexpr std::make_integer_sequence<int, 2 * count> lanes{};
  Simd<float> pairs[2][count] = {};
  for (int i = 0; i < count && 2 * i < channels; ++i) {
    const BFloat16* channel = from.data + 2 * i * from.channel;
    const Simd<uint16_t> first = load_part_pairs(channel, pixels);
    const Simd<uint16_t> second =
        2 * i + 1 < channels ? load_part_pairs(channel + from.channel, pixels) : first;
    pairs[0][i] = reinterpret_cast<Simd<float>>(zip_low<uint16_t>(first, second, lanes));
    pairs[1][i] = reinterpret_cast<Simd<float>>(zip_high<uint16_t>(first, second, lanes));
  }
  for (int half = 0; half < 2 && half * count < pixels; ++half) {
    transpose<float>(pairs[half]);
    for (int i = 0; i < count && half * count + i < pixels; ++i) {
      BFloat16* pixel = to + (half * count + i) * to_pixel;
      if (channels == 2 * count) {
        memcpy(pixel, &pairs[half][i], sizeof pairs[half][i]);
      } else {
        memcpy(pixel, &pairs[half][i], size_t(channels) * sizeof(uint16_t));
      }
    }
  }
}

GCV_HD void keep(BFloat16 from, BFloat16& to) { to = from; }

template <class Element, class Kept>
GCV_HD void keep(Element from, Kept& to) {
  to = widen(from);
}

// Neighbours, one number for all, or anything else.
template <class Element, class Kept>
GCV_HD void copy_channels(const Element* from, int64_t stride, int64_t count, Kept* to) {
  if (stride == 1) {
    if constexpr (std::is_same<Element, Kept>::value) {
      memcpy(to, from, size_t(count) * sizeof(Element));
    } else {
      widen_all(from, count, to);
    }
  } else if (stride == 0) {
    if (count == 0) return;  // then there may be no memory
    Kept all;
    keep(*from, all);
    for (int64_t c = 0; c < count; ++c) to[c] = all;
  } else {
    for (int64_t c = 0; c < count; ++c) keep(from[c * stride], to[c]);
  }
}

// to[x * to_pixel + c] = from(c, x) for `channels` channels of `pixels` pixels.
template <class Element, class Kept>
void pixels_of(const MapRow<const Element>& from, int64_t channels, int64_t pixels, Kept* to,
               int64_t to_pixel) {
  constexpr int64_t side = kVectorBytes / int64_t(sizeof(Kept));
  if (from.channel == 1 && from.pixel == channels && to_pixel == channels)
    return copy_channels(from.data, 1, channels * pixels, to);
  if (from.pixel != 1) {
    for (int64_t x = 0; x < pixels; ++x)
      copy_channels(from.data + x * from.pixel, from.channel, channels, to + x * to_pixel);
    return;
  }
  for (int64_t c = 0; c < channels; c += side) {
    for (int64_t x = 0; x < pixels; x += side) {
      const MapRow<const Element> corner{from.data + c * from.channel + x, from.channel, 1};
      turn_square(corner, smaller(side, channels - c), smaller(side, pixels - x), to + x * to_pixel + c,
                  to_pixel);
    }
  }
}

// to(c, x) = from[x * from_pixel + c].
template <class Element>
void pixels_to(const ComputeOf<Element>* from, int64_t from_pixel, int64_t channels, int64_t pixels,
               const MapRow<Element>& to) {
  using T = ComputeOf<Element>;
  constexpr int64_t lanes = kLanes<T>;
  if (to.pixel == 1) {
    for (int64_t c = 0; c < channels; c += lanes) {
      const int64_t rows = smaller(lanes, channels - c);
      for (int64_t x = 0; x < pixels; x += lanes) {
        const int64_t count = smaller(lanes, pixels - x);
        Simd<T> v[lanes] = {};
        for (int64_t i = 0; i < count; ++i) v[i] = load(from + (x + i) * from_pixel + c);
        transpose<T>(v);
        for (int64_t i = 0; i < rows; ++i) {
          Element* target = to.data + (c + i) * to.channel + x;
          if (count == lanes) {
            store_lanes(target, v[i]);
          } else {
            T part[lanes];
            store(part, v[i]);
            narrow_all(part, count, target);
          }
        }
      }
    }
    return;
  }
  for (int64_t x = 0; x < pixels; ++x) {
    const T* pixel = from + x * from_pixel;
    Element* target = to.data + x * to.pixel;
    if (to.channel == 1) {
      narrow_all(pixel, channels, target);
    } else {
      for (int64_t c = 0; c < channels; ++c) narrow(pixel[c], target[c * to.channel]);
    }
  }
}

// The same of sums that are rounded already.
static inline void narrowed_to(const BFloat16* from, int64_t from_pixel, int64_t channels, int64_t pixels,
                               const MapRow<BFloat16>& to) {
  constexpr int64_t side = kLanes<uint16_t>;
  if (to.pixel == 1) {
    for (int64_t x = 0; x < pixels; x += side) {
      for (int64_t c = 0; c < channels; c += side)
        turn_square({from + x * from_pixel + c, from_pixel, 1}, smaller(side, pixels - x),
                    smaller(side, channels - c), to.data + c * to.channel + x, to.channel);
    }
    return;
  }
  for (int64_t x = 0; x < pixels; ++x, from += from_pixel) {
    BFloat16* target = to.data + x * to.pixel;
    if (to.channel == 1 && channels == side) {
      memcpy(target, from, side * sizeof(BFloat16));
    } else {
      for (int64_t c = 0; c < channels; ++c) target[c * to.channel] = from[c];
    }
  }
}

}  // namespace
}  // namespace gcv::GCV_ISA
