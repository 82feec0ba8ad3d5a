// RoI align of Mask R-CNN, on one map or on the levels of a feature pyramid. Free of torch.
#pragma once

#include <math.h>

#include <cstdint>

#include "common/dtype.h"
#include "common/isa.h"
#include "roi/regions.h"

namespace gcv {

inline constexpr int64_t kRoiMostLevels = 16;

// So many samples in a bin along an axis cannot be counted: the region is one of zeros.
inline constexpr double kRoiMostSamples = 2147483648.0;

// A batch of maps of one size, `scale` of their cells to a unit of the regions.
struct RoiAlignMap {
  const void* data;  // [N, C, height, width]; null where only the size is needed
  int64_t strides[4];
  int64_t height;
  int64_t width;
  double scale;
};

// What forward and backward share. A region of a pyramid lies on the level whose number is that of the
// `areas`, which ascend, that its own area reaches; on none where that is no level, or where its area is
// negative.
struct RoiAlignRegions {
  Regions boxes;
  int64_t batch;
  int64_t channels;
  int64_t pooled_height;
  int64_t pooled_width;
  int64_t sampling_ratio;
  bool aligned;
  bool is_max;
  DType dtype;  // of maps, outputs and gradients
  int64_t level_count;
  RoiAlignMap levels[kRoiMostLevels];
  int64_t area_count;
  double areas[kRoiMostLevels];
};

struct RoiAlignParams {
  RoiAlignRegions regions;
  void* output;               // [K, C, pooled_height, pooled_width], dense
  bool output_channels_last;  // in memory [K, pooled_height, pooled_width, C]
};

// Levels have `data` where the maps are needed: for the maximum, and for gradients of boxes.
struct RoiAlignBackwardParams {
  RoiAlignRegions regions;
  const void* grad;  // [K, C, pooled_height, pooled_width]
  int64_t grad_strides[4];
  void* grad_maps[kRoiMostLevels];  // [N, C, height, width], dense; written whole
  bool grad_maps_channels_last;     // in memory [N, height, width, C]
  void* grad_boxes;                 // [K, 5], dense, of the boxes' dtype; null where it is not wanted
};

// Samples of one axis of a region: `count` in each bin, the first bin at `start`.
template <class T>
struct RoiAxis {
  T start;
  T bin;
  T count;       // a whole number
  bool clamped;  // to the smallest size of 1, which does not depend on the box
};

template <class T>
GCV_HD RoiAxis<T> roi_axis(T from, T to, double scale, bool aligned, int64_t bins, int64_t sampling_ratio) {
  const T offset = aligned ? T(0.5) : T(0);
  RoiAxis<T> axis;
  axis.start = from * T(scale) - offset;
  T size = to * T(scale) - offset - axis.start;
  axis.clamped = !aligned && size < T(1);
  if (axis.clamped) size = T(1);
  axis.bin = size / T(bins);
  axis.count = sampling_ratio > 0 ? T(sampling_ratio) : T(ceil(axis.bin));
  // NaN, which overflow leaves, has no samples either.
  if (!(axis.count > T(0) && axis.count < T(kRoiMostSamples))) axis.count = T(0);
  return axis;
}

// What the sum of a bin is divided by.
template <class T>
GCV_HD T roi_sample_count(const RoiAxis<T>& y, const RoiAxis<T>& x) {
  const T count = y.count * x.count;
  return count > T(1) ? count : T(1);
}

// One sample of an axis: between two neighbouring cells, whose weights make one.
template <class T>
struct RoiSample {
  bool inside;  // else its value is 0
  int64_t low, high;
  T low_weight, high_weight;
  bool moves;  // the value changes with the position; at the borders it does not
};

template <class T>
GCV_HD T roi_sample_position(const RoiAxis<T>& axis, int64_t bin, int64_t i) {
  return axis.start + T(bin) * axis.bin + (T(i) + T(0.5)) * axis.bin / axis.count;
}

template <class T>
GCV_HD RoiSample<T> roi_sample(const RoiAxis<T>& axis, int64_t bin, int64_t i, int64_t size) {
  T at = roi_sample_position(axis, bin, i);
  RoiSample<T> s{};
  s.inside = at >= T(-1) && at <= T(size) && size > 0;
  if (!s.inside) return s;
  s.moves = at > T(0);
  if (at <= T(0)) at = T(0);
  s.low = int64_t(at);
  s.high = s.low + 1;
  if (s.low >= size - 1) {
    s.low = s.high = size - 1;
    at = T(s.low);
    s.moves = false;
  }
  s.high_weight = at - T(s.low);
  s.low_weight = T(1) - s.high_weight;
  return s;
}

// The samples of a bin that may be inside are [first, last): with a huge region, few of them.
struct RoiSampleRange {
  int64_t first, last;
};

template <class T>
GCV_HD RoiSampleRange roi_samples_near(const RoiAxis<T>& axis, int64_t bin, int64_t size) {
  const int64_t count = int64_t(axis.count);
  // Also where bins run backwards.
  if (count <= 32 || !(axis.bin > T(0))) return {0, count};
  const double base = double(axis.start) + double(bin) * double(axis.bin),
               per_cell = double(axis.count) / double(axis.bin);
  // Wider than the map by what the rounding of a position may move it.
  const double slack = 2.0 + 4e-7 * (base < 0 ? -base : base) * per_cell;
  const double from = (-1.0 - base) * per_cell - slack, to = (double(size) - base) * per_cell + slack;
  const int64_t first = from > 0.0 ? (from < double(count) ? int64_t(from) : count) : 0;
  const int64_t last = to > 0.0 ? (to < double(count) ? int64_t(to) + 1 : count) : 0;
  return {first, last < first ? first : last > count ? count : last};
}

// The value of a sample, without fused operations: the maximum is the same on every backend, to the bit.
template <class T>
GCV_HD T roi_interpolate(T low, T high, T low_weight, T high_weight) {
  return low_weight * low + high_weight * high;
}

// Whether a sample takes the place of the best so far: the first of equals stays, and the first NaN.
template <class T>
GCV_HD bool roi_is_better(T value, T best) {
  return value > best || (value != value && best == best);
}

// How far a sample moves when the box's edge `from`, or `to`, moves by one.
template <class T>
struct RoiSlope {
  T from, to;
};

template <class T>
GCV_HD RoiSlope<T> roi_slope(const RoiAxis<T>& axis, double scale, int64_t bin, int64_t i, int64_t bins) {
  if (axis.clamped) return {T(scale), T(0)};
  const T along = (T(bin) + (T(i) + T(0.5)) / axis.count) / T(bins);
  return {T(scale) * (T(1) - along), T(scale) * along};
}

// The level of region k, in the boxes' precision; negative where it is none.
template <class T>
GCV_HD int64_t roi_level_of_area(const RoiAlignRegions& p, T x1, T y1, T x2, T y2) {
  const T area = (x2 - x1) * (y2 - y1);
  if (!(area >= T(0))) return -1;
  int64_t level = 0;
  for (int64_t i = 0; i < p.area_count; ++i) level += area >= T(p.areas[i]);
  return level < p.level_count ? level : -1;
}

template <class T>
GCV_HD int64_t roi_level(const RoiAlignRegions& p, const Region<T>& r) {
  if (p.level_count == 1) return 0;
  if (p.boxes.dtype == DType::f64) return roi_level_of_area<double>(p, r.x1, r.y1, r.x2, r.y2);
  return roi_level_of_area<float>(p, float(r.x1), float(r.y1), float(r.x2), float(r.y2));
}

// All about a region that does not depend on the bin.
template <class T>
struct RoiPlace {
  bool sound;  // else its row is NaN
  int64_t image;
  int64_t level;  // negative: its row is 0
  RoiAxis<T> y, x;
};

template <class T>
GCV_HD RoiPlace<T> roi_place(const RoiAlignRegions& p, int64_t k) {
  const Region<T> r = read_region<T>(p.boxes, k, p.batch);
  RoiPlace<T> place{};
  place.sound = r.sound;
  place.image = r.image;
  place.level = r.sound ? roi_level(p, r) : -1;
  if (place.level < 0) return place;
  const double scale = p.levels[place.level].scale;
  place.y = roi_axis(r.y1, r.y2, scale, p.aligned, p.pooled_height, p.sampling_ratio);
  place.x = roi_axis(r.x1, r.x2, scale, p.aligned, p.pooled_width, p.sampling_ratio);
  return place;
}

// The cells that the samples of an axis may touch: [begin, end).
struct RoiExtent {
  int64_t begin, end;
};

template <class T>
GCV_HD RoiExtent roi_extent(const RoiAxis<T>& axis, int64_t bins, int64_t size) {
  const T first = roi_sample_position(axis, 0, 0);
  const T last = roi_sample_position(axis, bins - 1, int64_t(axis.count) - 1);
  T low = first < last ? first : last, high = first < last ? last : first;
  if (!(axis.count > T(0) && high >= T(-1) && low <= T(size))) return {0, 0};
  // A cell more on either side, for positions that rounding moves past the outer ones.
  low = low > T(2) ? low : T(2);
  high = high < T(size) ? high : T(size);
  const int64_t begin = int64_t(low) - 2, end = int64_t(high) + 3;
  return {begin < size ? begin : size, end < size ? end : size};
}

// The part of a map that a CPU kernel may copy for a region: whole vectors along x where the map has room,
// from whole cache lines if it can be.
struct RoiCopy {
  RoiExtent y, x;
};

GCV_HD int64_t roi_pixels(const RoiCopy& r) { return (r.y.end - r.y.begin) * (r.x.end - r.x.begin); }

constexpr int64_t kRoiCopyStep = 16;

GCV_HD RoiExtent roi_whole_steps(const RoiExtent& x, int64_t size) {
  constexpr int64_t step = kRoiCopyStep;
  const RoiExtent lines{x.begin / step * step, (x.end + step - 1) / step * step};
  if (lines.end <= size) return lines;
  const int64_t width = (x.end - x.begin + step - 1) / step * step;
  if (width > size) return x;
  const int64_t begin = x.begin < size - width ? x.begin : size - width;
  return {begin, begin + width};
}

template <class T>
GCV_HD RoiCopy roi_copied_region(const RoiAlignRegions& p, const RoiPlace<T>& place) {
  const RoiAlignMap& map = p.levels[place.level];
  const RoiExtent x = roi_extent(place.x, p.pooled_width, map.width);
  return {roi_extent(place.y, p.pooled_height, map.height), roi_whole_steps(x, map.width)};
}

// CPU kernels see maps in blocks of channels, all of a block beside each other at each pixel:
// [block, image, y, x, channel of the block].
struct RoiAlignBlocks {
  const void* levels[kRoiMostLevels];  // null: regions are copied from the map, one by one
};

// Channels of a block.
GCV_PER_ISA(int64_t, roi_align_block_cpu, (DType dtype), (dtype))

// Writes items [begin, end), of block * batch + image, of one level's blocks.
GCV_PER_ISA(void, roi_align_lay_out_cpu,
            (const RoiAlignRegions& p, int64_t level, void* blocks, int64_t begin, int64_t end),
            (p, level, blocks, begin, end))

// Scratch of a thread; a copied region has at most `pixels`.
GCV_PER_ISA(size_t, roi_align_scratch_cpu, (const RoiAlignRegions& p, int64_t pixels), (p, pixels))

// Items [begin, end), of block * regions + place in `order`.
GCV_PER_ISA(void, roi_align_cpu,
            (const RoiAlignParams& p, const RoiAlignBlocks& blocks, const int64_t* order, void* scratch,
             int64_t begin, int64_t end),
            (p, blocks, order, scratch, begin, end))

// Regions by level and image: those of level * batch + image are order[starts[.]] to order[starts[. + 1]].
struct RoiAlignOrder {
  const int64_t* order;
  const int64_t* starts;
};

GCV_PER_ISA(size_t, roi_align_maps_backward_scratch_cpu, (const RoiAlignRegions& p), (p))

// Items [begin, end), of (level * batch + image) * blocks + block: each writes its own part of a map.
GCV_PER_ISA(void, roi_align_maps_backward_cpu,
            (const RoiAlignBackwardParams& p, const RoiAlignOrder& order, void* scratch, int64_t begin,
             int64_t end),
            (p, order, scratch, begin, end))

// Gradients of boxes [begin, end). The scratch is that of roi_align_cpu.
GCV_PER_ISA(void, roi_align_boxes_backward_cpu,
            (const RoiAlignBackwardParams& p, const RoiAlignBlocks& blocks, void* scratch, int64_t begin,
             int64_t end),
            (p, blocks, scratch, begin, end))

}  // namespace gcv
