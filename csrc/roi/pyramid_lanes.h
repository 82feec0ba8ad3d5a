// What the CPU kernels of spatial pyramid pooling share: maps in groups of channels, one channel a lane, and
// strips of cells that all levels are made of. Only pyramid_*_cpu.cpp files include this.
#pragma once

#include "common/workspace.h"
#include "roi/map_blocks.h"
#include "roi/pyramid.h"

namespace gcv::GCV_ISA {
namespace {

template <class T>
using KeyOf = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;

// A vector of integers in the order of the numbers, so that a maximum is one instruction: zeros are equal,
// and NaN, whatever its bits, is the largest.
template <class T>
GCV_HD Simd<KeyOf<T>> key_of(Simd<T> x) {
  using K = KeyOf<T>;
  constexpr int sign = sizeof(T) * 8 - 1;
  constexpr K quiet_nan = sizeof(T) == 8 ? K(0x7ff8000000000000ll) : K(0x7fc00000);
  const Simd<T> positive_zero = x + T(0);
  const Simd<K> bits = reinterpret_cast<Simd<K>>(positive_zero);
  const Simd<K> is_nan = x != x;
  const Simd<K> key = bits ^ ((bits >> sign) & ~(K(1) << sign));
  return (is_nan & quiet_nan) | (~is_nan & key);
}

template <class T>
GCV_HD Simd<T> number_of(Simd<KeyOf<T>> key) {
  constexpr int sign = sizeof(T) * 8 - 1;
  return reinterpret_cast<Simd<T>>(key ^ ((key >> sign) & ~(KeyOf<T>(1) << sign)));
}

template <class I>
GCV_HD Simd<I> larger_lanes(Simd<I> a, Simd<I> b) {
  return a > b ? a : b;
}

// One group of channels of one image as [y, x, lane]; lanes beyond the last channel repeat it.
template <class Element, bool kKeys>
void gather_group(const Pyramid& p, const PlanesIn& planes, int64_t image, int64_t group, void* out) {
  using T = typename Compute<Element>::type;
  constexpr int lanes = kLanes<T>;
  const int64_t first = group * lanes, channels = p.channels - first < lanes ? p.channels - first : lanes;
  const auto* base = static_cast<const Element*>(planes.data) + image * planes.strides[0];
  T* to = static_cast<T*>(out);
  const auto put = [&](Simd<T> v, T* at) {
    if constexpr (kKeys) {
      store(reinterpret_cast<KeyOf<T>*>(at), key_of<T>(v));
    } else {
      store(at, v);
    }
  };
  const Element* channel[lanes];
  for (int c = 0; c < lanes; ++c) {
    channel[c] = base + (first + (c < channels ? c : channels - 1)) * planes.strides[1];
  }
  for (int64_t y = 0; y < p.height; ++y) {
    const int64_t row = y * planes.strides[2];
    int64_t x = 0;
    if (planes.strides[3] == 1) {
      for (; x + lanes <= p.width; x += lanes) {
        Simd<T> tile[lanes];
        for (int c = 0; c < lanes; ++c) tile[c] = load_wide(channel[c] + row + x);
        transpose<T>(tile);
        for (int i = 0; i < lanes; ++i) put(tile[i], to + (y * p.width + x + i) * lanes);
      }
    } else if (planes.strides[1] == 1 && channels == lanes) {
      for (; x < p.width; ++x) {
        put(load_wide(channel[0] + row + x * planes.strides[3]), to + (y * p.width + x) * lanes);
      }
    }
    for (; x < p.width; ++x) {
      Simd<T> v{};
      for (int c = 0; c < lanes; ++c) v[c] = widen(channel[c][row + x * planes.strides[3]]);
      put(v, to + (y * p.width + x) * lanes);
    }
  }
}

// One axis of a region, cut at every edge of every bin: a bin of any level is some neighbouring strips.
struct AxisStrips {
  int32_t count;
  int32_t* edges;      // [count + 1]
  int32_t* index;      // [size + 1]: the edge at a cell
  int32_t (*bins)[2];  // of all levels: first strip and the one after the last
};

int32_t most_strips(const Pyramid& p, int64_t size) {
  int64_t most = 0;
  for (int i = 0; i < p.level_count; ++i) most += 2 * p.levels[i];
  return int32_t(most < size ? most : size);
}

int32_t bins_along(const Pyramid& p) {
  int32_t bins = 0;
  for (int i = 0; i < p.level_count; ++i) bins += p.levels[i];
  return bins;
}

AxisStrips take_strips(const Pyramid& p, int64_t size, Workspace& workspace) {
  return {0, workspace.take<int32_t>(most_strips(p, size) + 2), workspace.take<int32_t>(size + 1),
          reinterpret_cast<int32_t (*)[2]>(workspace.take<int32_t>(2 * int64_t(bins_along(p))))};
}

void cut(const Pyramid& p, int64_t size, AxisStrips& axis) {
  for (int64_t i = 0; i <= size; ++i) axis.index[i] = 0;
  int32_t bin = 0;
  for (int l = 0; l < p.level_count; ++l) {
    for (int i = 0; i < p.levels[l]; ++i, ++bin) {
      const CellSpan cells = bin_cells(p.paper, size, p.levels[l], i);
      axis.index[cells.begin] = axis.index[cells.end] = 1;
      axis.bins[bin][0] = int32_t(cells.begin);
      axis.bins[bin][1] = int32_t(cells.end);
    }
  }
  int32_t edges = 0;
  for (int64_t i = 0; i <= size; ++i) {
    if (!axis.index[i]) continue;
    axis.edges[edges] = int32_t(i);
    axis.index[i] = edges++;
  }
  axis.count = edges - 1;
  for (int32_t b = 0; b < bin; ++b) {
    for (int32_t& end : axis.bins[b]) end = axis.index[end];
  }
}

// What one thread needs. V is a vector's element.
template <class T>
struct PyramidScratch {
  AxisStrips y, x;
  T* strips;  // [y strip, x strip, lane]
  T* row;     // [x strip, lane]
  T* bins;    // of one level: [bin, lane]
  T* turned;  // of one level: [lane, bin], each row as long as whole vectors
  T* map;     // [y, x, lane]
  T* other_map;
};

template <class T>
PyramidScratch<T> take_scratch(const Pyramid& p, Workspace& workspace) {
  constexpr int64_t lanes = kLanes<T>;
  int64_t level = 0;
  for (int i = 0; i < p.level_count; ++i) level = p.levels[i] > level ? p.levels[i] : level;
  const int64_t rows = most_strips(p, p.height), columns = most_strips(p, p.width);
  PyramidScratch<T> s;
  s.y = take_strips(p, p.height, workspace);
  s.x = take_strips(p, p.width, workspace);
  s.strips = workspace.take<T>(rows * columns * lanes);
  s.row = workspace.take<T>(columns * lanes);
  s.bins = workspace.take<T>((level * level + lanes) * lanes);
  s.turned = workspace.take<T>((level * level + lanes) * lanes);
  s.map = workspace.take<T>(p.height * p.width * lanes);
  s.other_map = workspace.take<T>(p.height * p.width * lanes);
  return s;
}

// bins [bin, lane] as [lane, bin] into the region's features.
template <class Element, class T>
void put_level(const T* bins, int64_t count, int64_t channels, T* turned, Element* out) {
  constexpr int64_t lanes = kLanes<T>;
  const int64_t padded = (count + lanes - 1) / lanes * lanes;
  for (int64_t b = 0; b < count; b += lanes) {
    Simd<T> tile[lanes];
    for (int i = 0; i < lanes; ++i) tile[i] = load(bins + (b + i) * lanes);
    transpose<T>(tile);
    for (int c = 0; c < lanes; ++c) store(turned + c * padded + b, tile[c]);
  }
  int64_t c = 0;
  if constexpr (std::is_same<Element, T>::value) {
    // Whole vectors reach into the next channel, which comes after; so the last ones are copied exactly.
    for (; c < channels && (c + 1) * count + lanes <= channels * count; ++c) {
      for (int64_t b = 0; b < count; b += lanes) store(out + c * count + b, load(turned + c * padded + b));
    }
  }
  for (; c < channels; ++c) narrow_all(turned + c * padded, count, out + c * count);
}

// The reverse, for gradients.
template <class Element, class T>
void get_level(const Element* in, int64_t count, int64_t channels, T* bins) {
  constexpr int64_t lanes = kLanes<T>;
  for (int64_t c = 0; c < lanes; ++c) {
    for (int64_t b = 0; b < count; ++b)
      bins[b * lanes + c] = c < channels ? T(widen(in[c * count + b])) : T(0);
  }
}

}  // namespace
}  // namespace gcv::GCV_ISA
