// Gradients, by ownership: a work item has a group of channels of an image, and walks through all its
// regions.
#include "roi/pyramid_lanes.h"

namespace gcv::GCV_ISA {
namespace {

// Where each lane has its first maximum among a bin's cells: y * width + x.
template <class T>
Simd<KeyOf<T>> first_maximum(const T* map, int64_t width, const CellSpan& y, const CellSpan& x) {
  using Key = KeyOf<T>;
  constexpr int64_t lanes = kLanes<T>;
  const Key* keys = reinterpret_cast<const Key*>(map);
  Simd<Key> best = load(keys + (y.begin * width + x.begin) * lanes),
            at = splat(Key(y.begin * width + x.begin));
  for (int64_t i = y.begin; i < y.end; ++i) {
    for (int64_t j = x.begin; j < x.end; ++j) {
      const Simd<Key> key = load(keys + (i * width + j) * lanes);
      const Simd<Key> is_larger = key > best;
      best = is_larger ? key : best;
      at = is_larger ? splat(Key(i * width + j)) : at;
    }
  }
  return at;
}

CellSpan shifted(const CellSpan& cells, int64_t by) { return {cells.begin + by, cells.end + by}; }

// Calls use(bin of the level, where its maxima are).
template <class T, class Use>
void for_maxima(const Pyramid& p, const RegionCells& region, int32_t level, const T* map, Use use) {
  for (int32_t i = 0; i < level; ++i) {
    const CellSpan y = shifted(bin_cells(p.paper, cell_count(region.y), level, i), region.y.begin);
    for (int32_t j = 0; j < level; ++j) {
      const CellSpan x = shifted(bin_cells(p.paper, cell_count(region.x), level, j), region.x.begin);
      use(int64_t(i) * level + j, first_maximum<T>(map, p.width, y, x));
    }
  }
}

template <class T>
void spread_maxima(const Pyramid& p, const RegionCells& region, int32_t level, const PyramidScratch<T>& s) {
  constexpr int lanes = kLanes<T>;
  for_maxima<T>(p, region, level, s.map, [&](int64_t bin, Simd<KeyOf<T>> at) {
    for (int c = 0; c < lanes; ++c) s.other_map[int64_t(at[c]) * lanes + c] += s.bins[bin * lanes + c];
  });
}

// The shares of a level's bins, added to their strips.
template <class T>
void spread_to_strips(int32_t level, const int32_t (*ys)[2], const int32_t (*xs)[2],
                      const PyramidScratch<T>& s) {
  constexpr int64_t lanes = kLanes<T>;
  const T* bins = s.bins;
  for (int32_t i = 0; i < level; ++i) {
    for (int64_t at = 0; at < s.x.count * lanes; ++at) s.row[at] = T(0);
    const int64_t height = s.y.edges[ys[i][1]] - s.y.edges[ys[i][0]];
    for (int32_t j = 0; j < level; ++j, bins += lanes) {
      const Simd<T> share = load(bins) / T(height * (s.x.edges[xs[j][1]] - s.x.edges[xs[j][0]]));
      for (T* to = s.row + xs[j][0] * lanes; to < s.row + xs[j][1] * lanes; to += lanes)
        store(to, load(to) + share);
    }
    for (int32_t r = ys[i][0]; r < ys[i][1]; ++r) {
      T* to = s.strips + r * s.x.count * lanes;
      for (int64_t at = 0; at < s.x.count * lanes; at += lanes)
        store(to + at, load(to + at) + load(s.row + at));
    }
  }
}

template <class T>
void spread_to_cells(const Pyramid& p, const RegionCells& region, const PyramidScratch<T>& s) {
  constexpr int64_t lanes = kLanes<T>;
  for (int32_t r = 0; r < s.y.count; ++r) {
    for (int64_t y = s.y.edges[r]; y < s.y.edges[r + 1]; ++y) {
      T* row = s.other_map + ((region.y.begin + y) * p.width + region.x.begin) * lanes;
      for (int32_t q = 0; q < s.x.count; ++q) {
        const Simd<T> share = load(s.strips + (r * s.x.count + q) * lanes);
        for (int64_t x = s.x.edges[q]; x < s.x.edges[q + 1]; ++x) {
          store(row + x * lanes, load(row + x * lanes) + share);
        }
      }
    }
  }
}

template <class Element, class T>
void spread_region(const PyramidBackwardParams& p, const RegionCells& region, int64_t k, int64_t group,
                   PyramidScratch<T>& s) {
  constexpr int64_t lanes = kLanes<T>;
  const Pyramid& pyramid = p.pyramid;
  const int64_t first = group * lanes;
  const int64_t channels = pyramid.channels - first < lanes ? pyramid.channels - first : lanes;
  if (pyramid.average) {
    cut(pyramid, cell_count(region.y), s.y);
    cut(pyramid, cell_count(region.x), s.x);
    for (int64_t i = 0; i < int64_t(s.y.count) * s.x.count * lanes; ++i) s.strips[i] = T(0);
  }
  const auto* grad = static_cast<const Element*>(p.grad) + k * pyramid_features(pyramid);
  const int32_t (*ys)[2] = s.y.bins;
  const int32_t (*xs)[2] = s.x.bins;
  for (int l = 0; l < pyramid.level_count; ++l) {
    const int32_t level = pyramid.levels[l];
    const int64_t count = int64_t(level) * level;
    get_level<Element, T>(grad + first * count, count, channels, s.bins);
    if (pyramid.average) {
      spread_to_strips<T>(level, ys, xs, s);
    } else {
      spread_maxima<T>(pyramid, region, level, s);
    }
    grad += pyramid.channels * count;
    ys += level;
    xs += level;
  }
  if (pyramid.average) spread_to_cells<T>(pyramid, region, s);
}

template <class Element, class T>
void put_group(const PyramidBackwardParams& p, int64_t image, int64_t group, const T* map) {
  constexpr int64_t lanes = kLanes<T>;
  const int64_t first = group * lanes;
  for (int64_t c = 0; c < lanes && first + c < p.pyramid.channels; ++c) {
    auto* out =
        static_cast<Element*>(p.grad_input) + image * p.grad_strides[0] + (first + c) * p.grad_strides[1];
    for (int64_t y = 0; y < p.pyramid.height; ++y) {
      for (int64_t x = 0; x < p.pyramid.width; ++x) {
        narrow(map[(y * p.pyramid.width + x) * lanes + c],
               out[y * p.grad_strides[2] + x * p.grad_strides[3]]);
      }
    }
  }
}

// Calls use(region, its number) for those of an image that have cells, in their order.
template <class T, class Use>
void for_regions(const Pyramid& p, int64_t image, Use use) {
  const bool whole = p.whole;
  for (int64_t k = whole ? image : 0; k < (whole ? image + 1 : p.regions.count); ++k) {
    const RegionCells region = region_cells<T>(p, k);
    if (region.image == image && region.sound && !is_empty(region)) use(region, k);
  }
}

template <class Element>
void backward(const PyramidBackwardParams& p, void* memory, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const Pyramid& pyramid = p.pyramid;
  Workspace workspace(memory);
  PyramidScratch<T> s = take_scratch<T>(pyramid, workspace);
  const int64_t groups = (pyramid.channels + kLanes<T> - 1) / kLanes<T>;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t image = item / groups, group = item % groups;
    if (!pyramid.average) gather_group<Element, true>(pyramid, p.input, image, group, s.map);
    for (int64_t i = 0; i < pyramid.height * pyramid.width * kLanes<T>; ++i) s.other_map[i] = T(0);
    for_regions<T>(pyramid, image, [&](const RegionCells& region, int64_t k) {
      spread_region<Element, T>(p, region, k, group, s);
    });
    put_group<Element, T>(p, image, group, s.other_map);
  }
}

// The output has been filled with zeros.
template <class Element>
void values_at(const PyramidAtParams& p, void* memory, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  constexpr int lanes = kLanes<T>;
  const Pyramid& pyramid = p.pyramid;
  Workspace workspace(memory);
  PyramidScratch<T> s = take_scratch<T>(pyramid, workspace);
  const int64_t groups = (pyramid.channels + lanes - 1) / lanes;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t image = item / groups, first = item % groups * lanes;
    const int64_t channels = pyramid.channels - first < lanes ? pyramid.channels - first : lanes;
    gather_group<Element, true>(pyramid, p.input, image, item % groups, s.map);
    gather_group<Element, false>(pyramid, p.values, image, item % groups, s.other_map);
    for_regions<T>(pyramid, image, [&](const RegionCells& region, int64_t k) {
      auto* out = static_cast<Element*>(p.output) + k * pyramid_features(pyramid);
      for (int l = 0; l < pyramid.level_count; ++l) {
        const int32_t level = pyramid.levels[l];
        const int64_t count = int64_t(level) * level;
        for_maxima<T>(pyramid, region, level, s.map, [&](int64_t bin, Simd<KeyOf<T>> at) {
          for (int c = 0; c < lanes; ++c) s.bins[bin * lanes + c] = s.other_map[int64_t(at[c]) * lanes + c];
        });
        put_level<Element, T>(s.bins, count, channels, s.turned, out + first * count);
        out += pyramid.channels * count;
      }
    });
  }
}

}  // namespace

void pyramid_backward_cpu(const PyramidBackwardParams& p, void* scratch, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.pyramid.dtype, backward, p, scratch, begin, end);
}

void pyramid_at_cpu(const PyramidAtParams& p, void* scratch, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.pyramid.dtype, values_at, p, scratch, begin, end);
}

}  // namespace gcv::GCV_ISA
