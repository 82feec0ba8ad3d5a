// Pooling: every cell of a region is read once, into strips, and all levels are made of the strips.
#include "roi/pyramid_lanes.h"

namespace gcv::GCV_ISA {
namespace {

// Sums of numbers.
template <class T>
struct Average {
  using Lane = T;
  static constexpr bool kKeys = false;
  static Simd<T> join(Simd<T> a, Simd<T> b) { return a + b; }
  static Simd<T> finish(Simd<T> sum, int64_t cells) { return sum / T(cells); }
};

// Maxima of keys.
template <class T>
struct Maximum {
  using Lane = KeyOf<T>;
  static constexpr bool kKeys = true;
  static Simd<Lane> join(Simd<Lane> a, Simd<Lane> b) { return larger_lanes<Lane>(a, b); }
  static Simd<T> finish(Simd<Lane> key, int64_t) { return number_of<T>(key); }
};

template <class Rule>
void join_cells(const typename Rule::Lane* map, int64_t width, const PyramidScratch<typename Rule::Lane>& s) {
  using Lane = typename Rule::Lane;
  constexpr int64_t lanes = kLanes<Lane>;
  Lane* out = s.strips;
  for (int32_t r = 0; r < s.y.count; ++r) {
    for (int32_t q = 0; q < s.x.count; ++q, out += lanes) {
      const int64_t begin = s.x.edges[q], end = s.x.edges[q + 1];
      const Lane* row = map + int64_t(s.y.edges[r]) * width * lanes;
      Simd<Lane> value = load(row + begin * lanes);
      for (int64_t x = begin + 1; x < end; ++x) value = Rule::join(value, load(row + x * lanes));
      for (int32_t y = s.y.edges[r] + 1; y < s.y.edges[r + 1]; ++y) {
        row += width * lanes;
        for (int64_t x = begin; x < end; ++x) value = Rule::join(value, load(row + x * lanes));
      }
      store(out, value);
    }
  }
}

// Strips [y[0], y[1]) of rows in one.
template <class Rule>
void join_rows(const int32_t (&y)[2], const PyramidScratch<typename Rule::Lane>& s) {
  using Lane = typename Rule::Lane;
  constexpr int64_t lanes = kLanes<Lane>;
  const int64_t stride = s.x.count * lanes;
  for (int64_t at = 0; at < stride; at += lanes) {
    const Lane* from = s.strips + y[0] * stride + at;
    Simd<Lane> value = load(from);
    for (int32_t r = y[0] + 1; r < y[1]; ++r) value = Rule::join(value, load(from += stride));
    store(s.row + at, value);
  }
}

template <class T, class Rule>
void join_level(int32_t level, const int32_t (*ys)[2], const int32_t (*xs)[2],
                const PyramidScratch<typename Rule::Lane>& s, T* bins) {
  using Lane = typename Rule::Lane;
  constexpr int64_t lanes = kLanes<Lane>;
  for (int32_t i = 0; i < level; ++i) {
    join_rows<Rule>(ys[i], s);
    const int64_t height = s.y.edges[ys[i][1]] - s.y.edges[ys[i][0]];
    for (int32_t j = 0; j < level; ++j, bins += lanes) {
      Simd<Lane> value = load(s.row + xs[j][0] * lanes);
      for (int32_t q = xs[j][0] + 1; q < xs[j][1]; ++q) value = Rule::join(value, load(s.row + q * lanes));
      store(bins, Rule::finish(value, height * (s.x.edges[xs[j][1]] - s.x.edges[xs[j][0]])));
    }
  }
}

template <class Element>
void fill(const PyramidPoolParams& p, const RegionCells& region, Element* out) {
  using T = typename Compute<Element>::type;
  Element value;
  narrow(region.sound ? T(0) : T(NAN), value);
  for (int64_t i = 0; i < pyramid_features(p.pyramid); ++i) out[i] = value;
}

template <class Element, class Rule>
void pool_group(const PyramidPoolParams& p, const RegionCells& region, int64_t group,
                const typename Rule::Lane* map, const PyramidScratch<typename Rule::Lane>& s, Element* out) {
  using T = typename Compute<Element>::type;
  constexpr int64_t lanes = kLanes<T>;
  const Pyramid& pyramid = p.pyramid;
  const int64_t first = group * lanes;
  const int64_t channels = pyramid.channels - first < lanes ? pyramid.channels - first : lanes;
  join_cells<Rule>(map + (region.y.begin * pyramid.width + region.x.begin) * lanes, pyramid.width, s);
  T* bins = reinterpret_cast<T*>(s.bins);
  const int32_t (*ys)[2] = s.y.bins;
  const int32_t (*xs)[2] = s.x.bins;
  for (int l = 0; l < pyramid.level_count; ++l) {
    const int32_t level = pyramid.levels[l];
    const int64_t count = int64_t(level) * level;
    join_level<T, Rule>(level, ys, xs, s, bins);
    put_level<Element, T>(bins, count, channels, reinterpret_cast<T*>(s.turned), out + first * count);
    out += pyramid.channels * count;
    ys += level;
    xs += level;
  }
}

template <class Element, class Rule>
void pool_items(const PyramidPoolParams& p, const void* maps, void* memory, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  using Lane = typename Rule::Lane;
  const Pyramid& pyramid = p.pyramid;
  Workspace workspace(memory);
  PyramidScratch<Lane> s = take_scratch<Lane>(pyramid, workspace);
  const int64_t groups = (pyramid.channels + kLanes<T> - 1) / kLanes<T>;
  const int64_t map_size = pyramid.height * pyramid.width * kLanes<T>;
  int64_t known = -1;
  RegionCells region{};
  for (int64_t item = begin; item < end; ++item) {
    const int64_t k = item / groups, group = item % groups;
    auto* out = static_cast<Element*>(p.output) + k * pyramid_features(pyramid);
    if (k != known) {
      known = k;
      region = region_cells<T>(pyramid, k);
      if (region.sound && !is_empty(region)) {
        cut(pyramid, cell_count(region.y), s.y);
        cut(pyramid, cell_count(region.x), s.x);
      }
    }
    if (!region.sound || is_empty(region)) {
      // By the item that has the first group, whole.
      if (group == 0) fill(p, region, out);
      continue;
    }
    const Lane* map = static_cast<const Lane*>(maps) + (region.image * groups + group) * map_size;
    if (!maps) {
      gather_group<Element, Rule::kKeys>(pyramid, p.input, region.image, group, s.map);
      map = s.map;
    }
    pool_group<Element, Rule>(p, region, group, map, s, out);
  }
}

template <class Element>
void pool(const PyramidPoolParams& p, const void* maps, void* scratch, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  if (p.pyramid.average) {
    pool_items<Element, Average<T>>(p, maps, scratch, begin, end);
  } else {
    pool_items<Element, Maximum<T>>(p, maps, scratch, begin, end);
  }
}

template <class Element>
void gather(const PyramidPoolParams& p, void* maps, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const Pyramid& pyramid = p.pyramid;
  const int64_t groups = (pyramid.channels + kLanes<T> - 1) / kLanes<T>;
  const int64_t map_size = pyramid.height * pyramid.width * kLanes<T>;
  for (int64_t item = begin; item < end; ++item) {
    T* out = static_cast<T*>(maps) + item * map_size;
    if (pyramid.average) {
      gather_group<Element, false>(pyramid, p.input, item / groups, item % groups, out);
    } else {
      gather_group<Element, true>(pyramid, p.input, item / groups, item % groups, out);
    }
  }
}

template <class Element>
int64_t scratch_bytes(const Pyramid& p) {
  Workspace workspace(nullptr);
  take_scratch<typename Compute<Element>::type>(p, workspace);
  return int64_t(workspace.used());
}

}  // namespace

int64_t pyramid_lanes(DType dtype) { return dtype == DType::f64 ? kLanes<double> : kLanes<float>; }

int64_t pyramid_scratch_bytes(const Pyramid& p) { return GCV_BY_DTYPE(p.dtype, scratch_bytes, p); }

void pyramid_gather_cpu(const PyramidPoolParams& p, void* maps, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.pyramid.dtype, gather, p, maps, begin, end);
}

void pyramid_pool_cpu(const PyramidPoolParams& p, const void* maps, void* scratch, int64_t begin,
                      int64_t end) {
  GCV_BY_DTYPE(p.pyramid.dtype, pool, p, maps, scratch, begin, end);
}

}  // namespace gcv::GCV_ISA
