// Position-sensitive regions of R-FCN: channel (c * bins_y + i) * bins_x + j of a map serves bin (i, j) of
// channel c of the result. A bin is a mean of samples between pixels (ps_roi_align) or of whole pixels
// (ps_roi_pool). Both are separable: what a bin reads, and with which weights, is told by its rows and its
// columns. Free of torch.
#pragma once

#include <math.h>

#include <cstdint>

#include "common/dtype.h"
#include "common/isa.h"
#include "roi/regions.h"

namespace gcv {

// What forward and backward share.
struct PsGeometry {
  Regions boxes;
  int64_t images, channels, height, width;  // of the maps; a plane has at most kPsMostPixels
  int64_t bins_y, bins_x;
  double spatial_scale;
  int64_t sampling_ratio;  // samples along a side of a bin; without a positive one, a sample for each pixel
  bool pool;               // whole pixels in place of samples
  DType dtype;             // of maps and results
};

constexpr int64_t kPsMostPixels = int64_t(1) << 30;

struct PsStrides {
  int64_t d[4];  // in elements
};

struct PsForwardParams {
  PsGeometry geometry;
  const void* input;  // [images, channels, height, width]
  PsStrides input_strides;
  void* output;  // [regions, channels / bins, bins_y, bins_x], dense
};

struct PsBackwardParams {
  PsGeometry geometry;
  const void* grad;  // of the output
  PsStrides grad_strides;
  void* grad_input;  // dense
};

// Of ps_roi_align alone; the numbers of samples are held fixed.
struct PsBoxesBackwardParams {
  PsGeometry geometry;
  const void* grad;
  PsStrides grad_strides;
  const void* input;
  PsStrides input_strides;
  void* grad_boxes;  // [regions, 5], dense, of the regions' dtype
};

GCV_HD float ceil_of(float x) { return ceilf(x); }
GCV_HD double ceil_of(double x) { return ceil(x); }
GCV_HD float floor_of(float x) { return floorf(x); }
GCV_HD double floor_of(double x) { return floor(x); }

template <class T>
GCV_HD T clamped(T x, T least, T most) {
  return x < least ? least : x > most ? most : x;
}

// Samples of ps_roi_align along one axis of a region.
template <class T>
struct PsSamples {
  T low, step;     // of the first bin: where it starts; how long a bin is
  T grid;          // how many a bin has; a whole number
  int64_t size;    // pixels of the map
  int64_t looked;  // how many of a bin are looked at; those of a long bin that lie far outside are not
  bool all;        // beginning with the first one
  bool is_finite;  // else the result is NaN
};

template <class T>
GCV_HD PsSamples<T> ps_samples(T box_low, T box_high, const PsGeometry& g, int64_t bins, int64_t size) {
  PsSamples<T> s;
  const T scale = T(g.spatial_scale);
  s.low = box_low * scale - T(0.5);
  const T extent = (box_high * scale - T(0.5)) - s.low;
  s.step = extent / T(bins);
  s.size = size;
  s.is_finite = extent - extent == 0;
  s.all = g.sampling_ratio > 0;
  s.grid = s.all ? T(g.sampling_ratio) : ceil_of(s.step);
  if (!s.is_finite || !(s.grid > 0) || size == 0) {
    s.looked = 0;
    if (!(s.grid > 0)) s.grid = 0;
  } else if (s.all) {
    s.looked = g.sampling_ratio;
  } else {
    const T near = ceil_of(T(size + 1) / (s.step / s.grid)) + T(4);
    s.looked = int64_t(s.grid < near ? s.grid : near);
  }
  return s;
}

// The samples of one bin.
template <class T>
struct PsBinSamples {
  T start, first;
};

template <class T>
GCV_HD PsBinSamples<T> ps_bin_samples(const PsSamples<T>& s, int64_t bin) {
  const T start = T(bin) * s.step + s.low;
  if (s.all) return {start, T(0)};
  return {start, clamped(floor_of((T(-1) - start) / (s.step / s.grid) - T(1.5)), T(0), s.grid)};
}

// A sample lies between two pixels, or counts as 0.
template <class T>
struct PsSample {
  bool inside;
  bool moves;  // with its weight; not where it is held at the border
  int64_t before, after;
  T weight;  // of `after`
};

template <class T>
GCV_HD PsSample<T> ps_sample(const PsSamples<T>& s, const PsBinSamples<T>& bin, int64_t number) {
  const T n = bin.first + T(number);
  const T point = bin.start + (n + T(0.5)) * s.step / s.grid;
  PsSample<T> sample{};
  sample.inside = n < s.grid && point >= T(-1) && point <= T(s.size);
  if (!sample.inside) return sample;
  const T held = point <= 0 ? T(0) : point;
  const int64_t before = int64_t(held);
  const bool last = before >= s.size - 1;
  sample.before = last ? s.size - 1 : before;
  sample.after = last ? s.size - 1 : before + 1;
  sample.weight = last ? T(0) : held - T(before);
  sample.moves = point > 0 && !last;
  return sample;
}

// How far along the region, from 0 at its start to 1 at its end.
template <class T>
GCV_HD T ps_share(const PsSamples<T>& s, const PsBinSamples<T>& bin, int64_t bin_number, int64_t bins,
                  int64_t number) {
  return (T(bin_number) + (bin.first + T(number) + T(0.5)) / s.grid) / T(bins);
}

// Pixels of ps_roi_pool along one axis of a region.
template <class T>
struct PsPixels {
  int64_t start;
  T step;
  int64_t last;  // no bin has it, as in torchvision
  bool is_finite;
};

// Halves away from zero.
template <class T>
GCV_HD int64_t rounded(T x) {
  constexpr double most = 2147483648.0;
  const T held = clamped(x, T(-2 * most), T(2 * most));
  const int64_t whole = int64_t(held);
  const T rest = held - T(whole);
  return clamped(whole + (rest >= T(0.5)) - (rest <= T(-0.5)), int64_t(-most), int64_t(most));
}

template <class T>
GCV_HD PsPixels<T> ps_pixels(T box_low, T box_high, const PsGeometry& g, int64_t bins, int64_t size) {
  const T low = box_low * T(g.spatial_scale), high = box_high * T(g.spatial_scale);
  PsPixels<T> p{};
  p.is_finite = low - low == 0 && high - high == 0;
  if (!p.is_finite) return p;
  p.start = rounded(low);
  const int64_t extent = rounded(high) - p.start;
  p.step = T(extent < 1 ? 1 : extent) / T(bins);
  p.last = size > 0 ? size - 1 : 0;
  return p;
}

struct PsRange {
  int64_t first, end;
};

template <class T>
GCV_HD PsRange ps_bin_pixels(const PsPixels<T>& p, int64_t bin) {
  const int64_t from = p.start + int64_t(floor_of(T(bin) * p.step));
  const int64_t to = p.start + int64_t(ceil_of(T(bin + 1) * p.step));
  const int64_t first = clamped(from, int64_t(0), p.last), end = clamped(to, int64_t(0), p.last);
  return {first, end < first ? first : end};
}

template <class T>
struct PsAxis {
  bool pool;
  PsSamples<T> samples;
  PsPixels<T> pixels;
};

template <class T>
GCV_HD PsAxis<T> ps_axis(T box_low, T box_high, const PsGeometry& g, int64_t bins, int64_t size) {
  PsAxis<T> axis{};
  axis.pool = g.pool;
  if (g.pool) {
    axis.pixels = ps_pixels(box_low, box_high, g, bins, size);
  } else {
    axis.samples = ps_samples(box_low, box_high, g, bins, size);
  }
  return axis;
}

template <class T>
struct PsRegion {
  int64_t image;  // the first, where the region has none
  bool sound;     // else its results are NaN, and it passes no gradient
  PsAxis<T> y, x;
};

template <class T>
GCV_HD PsRegion<T> ps_region(const PsGeometry& g, int64_t k) {
  const Region<T> r = read_region<T>(g.boxes, k, g.images);
  PsRegion<T> region{r.image < 0 ? 0 : r.image, r.sound, {}, {}};
  if (!r.sound) return region;
  region.y = ps_axis(r.y1, r.y2, g, g.bins_y, g.height);
  region.x = ps_axis(r.x1, r.x2, g, g.bins_x, g.width);
  region.sound = g.pool ? region.y.pixels.is_finite && region.x.pixels.is_finite
                        : region.y.samples.is_finite && region.x.samples.is_finite;
  return region;
}

// Of one interpolated sample.
template <class T>
struct PsSlopes {
  T along_y, along_x;
};

// `plane` and the strides of its rows and columns, in elements.
template <class Element, class T>
GCV_HD PsSlopes<T> ps_slopes(const Element* plane, int64_t row_stride, int64_t column_stride,
                             const PsSample<T>& y, const PsSample<T>& x) {
  const Element *upper = plane + y.before * row_stride, *lower = plane + y.after * row_stride;
  const int64_t left = x.before * column_stride, right = x.after * column_stride;
  const T a = widen(upper[left]), b = widen(upper[right]), c = widen(lower[left]), d = widen(lower[right]);
  return {y.moves ? (T(1) - x.weight) * (c - a) + x.weight * (d - b) : T(0),
          x.moves ? (T(1) - y.weight) * (b - a) + y.weight * (d - c) : T(0)};
}

}  // namespace gcv
