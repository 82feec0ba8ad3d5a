// RoI pooling: the largest value in each bin of a region of a map. Free of torch.
#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "common/isa.h"
#include "roi/regions.h"

namespace gcv {

// [images or regions, channels, rows, columns], strides in elements.
struct PoolMaps {
  void* data;
  int64_t strides[4];
};

struct PoolShape {
  int64_t images, channels, height, width;  // of the maps
  Regions regions;
  int64_t rows, columns;  // bins of each region
  double spatial_scale;
  DType dtype;
};

GCV_HD int64_t map_pixels(const PoolShape& s) { return s.height * s.width; }
GCV_HD int64_t bin_count(const PoolShape& s) { return s.rows * s.columns; }

struct RoiPoolParams {
  PoolShape shape;
  PoolMaps input;
  void* output;  // [regions, channels, rows, columns], dense
};

// As roi_pool, but takes from `values` what lies at the maxima of `input`.
struct RoiPoolPickParams {
  PoolShape shape;
  PoolMaps values, input;
  void* output;
};

// Adds each bin's gradient to the pixel that was the bin's maximum.
struct RoiPoolBackwardParams {
  PoolShape shape;
  PoolMaps grad;  // over regions
  PoolMaps input, grad_input;
};

// A bin starts below every number, and keeps that where it holds none that is larger: torchvision's choice.
inline constexpr float kLowest = -3.402823466e+38f;

// Pixel numbers of maxima are 32 bits wide where features are.
inline constexpr int64_t kMostPixels = (int64_t(1) << 31) - 1;

struct Extent {
  int64_t begin, end;
};

// One side of a region: where its bins start, in pixels, and how long each is.
template <class T>
struct PoolAxis {
  int64_t start;
  T bin;
};

// C's round: halves away from zero. What is no pixel of any map may stop at the limit; NaN does too.
template <class T>
GCV_HD int64_t round_coordinate(T x) {
  const T limit = T(0x1p31);
  if (!(x > -limit)) return -(int64_t(1) << 31);
  if (x > limit) return int64_t(1) << 31;
  const int64_t whole = int64_t(x);
  const T rest = x - T(whole);
  return whole + (rest >= T(0.5)) - (rest <= T(-0.5));
}

template <class T>
GCV_HD PoolAxis<T> pool_axis(T first, T last, T scale, int64_t bins) {
  const int64_t start = round_coordinate(first * scale);
  const int64_t size = round_coordinate(last * scale) - start + 1;
  return {start, T(size > 1 ? size : 1) / T(bins)};
}

GCV_HD int64_t clip_pixel(int64_t pixel, int64_t length) {
  return pixel < 0 ? 0 : pixel > length ? length : pixel;
}

// The pixels of bin i, from floor to ceiling; both are of numbers that are not negative.
template <class T>
GCV_HD Extent pool_extent(const PoolAxis<T>& axis, int64_t i, int64_t length) {
  const T last = T(i + 1) * axis.bin;
  const int64_t whole = int64_t(last);
  const int64_t begin = int64_t(T(i) * axis.bin), end = whole + (T(whole) < last);
  return {clip_pixel(axis.start + begin, length), clip_pixel(axis.start + end, length)};
}

template <class T>
struct PoolRegion {
  int64_t image;
  bool sound;
  PoolAxis<T> y, x;
};

template <class T>
GCV_HD PoolRegion<T> pool_region(const PoolShape& s, int64_t k) {
  const Region<T> r = read_region<T>(s.regions, k, s.images);
  PoolRegion<T> region;
  region.image = r.image;
  region.sound = r.sound;
  region.y = pool_axis(r.y1, r.y2, T(s.spatial_scale), s.rows);
  region.x = pool_axis(r.x1, r.x2, T(s.spatial_scale), s.columns);
  return region;
}

// Which regions lie in each image, in their order: those of image n are order[starts[n]] up to
// order[starts[n + 1]].
struct PoolOrder {
  const int64_t* order;
  const int64_t* starts;
};

// How many channels the CPU kernels take together.
GCV_PER_ISA(int64_t, roi_pool_block_cpu, (DType dtype), (dtype))

// Copies the maps, blocks of channels beside each other, for roi_pool_cpu: items are block * images + image,
// each of block * pixels numbers that are computed in.
GCV_PER_ISA(void, roi_pool_lay_out_cpu, (const RoiPoolParams& p, void* laid_out, int64_t begin, int64_t end),
            (p, laid_out, begin, end))

// Items are block * regions + place in `order`. Where `laid_out` is null the pixels of a region are read
// where they lie, or copied into `scratch`, which holds roi_pool_scratch_cpu(shape, most pixels of one
// region).
GCV_PER_ISA(void, roi_pool_cpu,
            (const RoiPoolParams& p, const void* laid_out, const int64_t* order, void* scratch, int64_t begin,
             int64_t end),
            (p, laid_out, order, scratch, begin, end))
GCV_PER_ISA(size_t, roi_pool_scratch_cpu, (const PoolShape& s, int64_t pixels), (s, pixels))

// Items are block * images + image: whoever has one owns its part of the gradient, so that sums have one
// order.
GCV_PER_ISA(void, roi_pool_backward_cpu,
            (const RoiPoolBackwardParams& p, const PoolOrder& order, void* scratch, int64_t begin,
             int64_t end),
            (p, order, scratch, begin, end))
GCV_PER_ISA(void, roi_pool_pick_cpu,
            (const RoiPoolPickParams& p, const PoolOrder& order, void* scratch, int64_t begin, int64_t end),
            (p, order, scratch, begin, end))
// Of roi_pool_backward_cpu and roi_pool_pick_cpu.
GCV_PER_ISA(size_t, roi_pool_owner_scratch_cpu, (const PoolShape& s), (s))

}  // namespace gcv
