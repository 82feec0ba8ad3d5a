// Spatial pyramid pooling (He et al. 2014): cells of a region, windows of bins, and what the kernels are
// told. Free of torch. The formulas are in gencv_fast/ops/roi/pyramid/README.md.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/dtype.h"
#include "common/isa.h"
#include "roi/regions.h"

namespace gcv {

constexpr int kMostPyramidLevels = 16;
constexpr int kMostPyramidBins = 256;  // along one axis of a level

struct Pyramid {
  int64_t images, channels, height, width;
  Regions regions;  // only their number where every image is one
  bool whole;       // every image is one region
  int32_t levels[kMostPyramidLevels];
  int32_t level_count;
  bool average;  // else the maximum
  bool paper;    // else adaptive bins
  double spatial_scale;
  DType dtype;
};

struct PlanesIn {
  const void* data;
  int64_t strides[4];
};

struct PyramidPoolParams {
  Pyramid pyramid;
  PlanesIn input;
  void* output;  // dense [regions, features]
};

struct PyramidBackwardParams {
  Pyramid pyramid;
  const void* grad;  // dense [regions, features]
  PlanesIn input;    // read for maxima only
  void* grad_input;
  int64_t grad_strides[4];
};

// The values where the input has its maxima.
struct PyramidAtParams {
  Pyramid pyramid;
  PlanesIn values;
  PlanesIn input;
  void* output;
};

// Cells of one axis.
struct CellSpan {
  int64_t begin, end;
};

struct RegionCells {
  int64_t image;
  CellSpan y, x;
  bool sound;
};

GCV_HD int64_t cell_count(const CellSpan& s) { return s.end - s.begin; }

GCV_HD bool is_empty(const RegionCells& r) { return r.y.begin >= r.y.end || r.x.begin >= r.x.end; }

GCV_HD int64_t pyramid_features(const Pyramid& p) {
  int64_t bins = 0;
  for (int i = 0; i < p.level_count; ++i) bins += int64_t(p.levels[i]) * p.levels[i];
  return bins * p.channels;
}

namespace detail {

template <class T>
GCV_HD int64_t whole_cell(T x) {
  constexpr T most = T(1099511627776.0);  // beyond every map, and a sum of two is exact
  return int64_t(x > most ? most : x < -most ? -most : x);
}

template <class T>
GCV_HD CellSpan cells_between(T low, T high, T scale, int64_t size) {
  int64_t first = whole_cell(std::floor(low * scale)) + 1;
  int64_t last = whole_cell(std::ceil(high * scale)) - 1;
  if (last < first) {
    const int64_t sum = first + last;
    first = last = sum >> 1;  // rounds down, negative sums too
  }
  const int64_t begin = first > 0 ? first : 0;
  const int64_t end = last + 1 < size ? last + 1 : size;
  return {begin, end > begin ? end : begin};
}

}  // namespace detail

// Of region k, computed in T.
template <class T>
GCV_HD RegionCells region_cells(const Pyramid& p, int64_t k) {
  if (p.whole) return {k, {0, p.height}, {0, p.width}, true};
  const Region<T> r = read_region<T>(p.regions, k, p.images);
  if (!r.sound) return {r.image, {0, 0}, {0, 0}, false};
  const T scale = T(p.spatial_scale);
  return {r.image, detail::cells_between(r.y1, r.y2, scale, p.height),
          detail::cells_between(r.x1, r.x2, scale, p.width), true};
}

// What bin `i` of `level` takes of `size` cells, counted from the region's first.
GCV_HD CellSpan bin_cells(bool paper, int64_t size, int64_t level, int64_t i) {
  if (paper && size >= level) {
    const int64_t stride = size / level, window = (size + level - 1) / level;
    return {i * stride, i * stride + window};
  }
  return {i * size / level, ((i + 1) * size + level - 1) / level};
}

// The bins of `level` that take cell `at`, which are neighbours; none where begin == end.
GCV_HD CellSpan bins_of_cell(bool paper, int64_t size, int64_t level, int64_t at) {
  if (paper && size >= level) {
    const int64_t stride = size / level, window = (size + level - 1) / level;
    const int64_t begin = at < window ? 0 : (at - window) / stride + 1;
    const int64_t end = at / stride + 1;
    return {begin < level ? begin : level, end < level ? end : level};
  }
  return {at * level / size, ((at + 1) * level + size - 1) / size};
}

// Channels in a vector: a group, which is what a work item of the CPU kernels takes.
GCV_PER_ISA(int64_t, pyramid_lanes, (DType dtype), (dtype))
// Bytes of scratch memory that one thread needs.
GCV_PER_ISA(int64_t, pyramid_scratch_bytes, (const Pyramid& p), (p))

// Puts groups [begin, end) of images times groups of channels side by side: [image, group, y, x, lane].
GCV_PER_ISA(void, pyramid_gather_cpu, (const PyramidPoolParams& p, void* maps, int64_t begin, int64_t end),
            (p, maps, begin, end))
// Items [begin, end) of regions times groups of channels; without `maps` a whole image is gathered in place.
GCV_PER_ISA(void, pyramid_pool_cpu,
            (const PyramidPoolParams& p, const void* maps, void* scratch, int64_t begin, int64_t end),
            (p, maps, scratch, begin, end))
// Items [begin, end) of images times groups of channels.
GCV_PER_ISA(void, pyramid_backward_cpu,
            (const PyramidBackwardParams& p, void* scratch, int64_t begin, int64_t end),
            (p, scratch, begin, end))
GCV_PER_ISA(void, pyramid_at_cpu, (const PyramidAtParams& p, void* scratch, int64_t begin, int64_t end),
            (p, scratch, begin, end))

}  // namespace gcv
