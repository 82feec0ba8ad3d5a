// The gradient of the boxes of ps_roi_align, region by region.
#include "roi/position_sensitive_tables.h"

namespace gcv::GCV_ISA {
namespace {

// Of x1, y1, x2, y2.
struct BoxSums {
  double d[4];
};

// Over all channels of the result.
template <class Element, class T>
BoxSums bin_sums(const PsBoxesBackwardParams& p, const PsRegion<T>& region, int64_t k, int64_t i, int64_t j) {
  const PsGeometry& g = p.geometry;
  const int64_t bins = g.bins_y * g.bins_x;
  const int64_t *const strides = p.input_strides.d, *const grad_strides = p.grad_strides.d;
  const PsSamples<T>&ys = region.y.samples, &xs = region.x.samples;
  const PsBinSamples<T> y_bin = ps_bin_samples(ys, i), x_bin = ps_bin_samples(xs, j);
  const auto* const plane =
      static_cast<const Element*>(p.input) + region.image * strides[0] + (i * g.bins_x + j) * strides[1];
  const auto* const grad =
      static_cast<const Element*>(p.grad) + k * grad_strides[0] + i * grad_strides[2] + j * grad_strides[3];
  BoxSums sums{};
  for (int64_t m = 0; m < ys.looked; ++m) {
    const PsSample<T> y = ps_sample(ys, y_bin, m);
    if (!y.inside) continue;
    const double y_share = ps_share(ys, y_bin, i, g.bins_y, m);
    for (int64_t n = 0; n < xs.looked; ++n) {
      const PsSample<T> x = ps_sample(xs, x_bin, n);
      if (!x.inside) continue;
      const double x_share = ps_share(xs, x_bin, j, g.bins_x, n);
      double along_y = 0, along_x = 0;
      for (int64_t c = 0; c < g.channels / bins; ++c) {
        const PsSlopes<T> slopes = ps_slopes(plane + c * bins * strides[1], strides[2], strides[3], y, x);
        const double weight = widen(grad[c * grad_strides[1]]);
        along_y += weight * slopes.along_y;
        along_x += weight * slopes.along_x;
      }
      sums.d[0] += along_x * (1 - x_share);
      sums.d[1] += along_y * (1 - y_share);
      sums.d[2] += along_x * x_share;
      sums.d[3] += along_y * y_share;
    }
  }
  return sums;
}

void store_number(DType dtype, void* numbers, int64_t at, double x) {
  switch (dtype) {
    case DType::f64:
      static_cast<double*>(numbers)[at] = x;
      return;
    case DType::f16:
      return narrow(float(x), static_cast<Half*>(numbers)[at]);
    case DType::bf16:
      return narrow(float(x), static_cast<BFloat16*>(numbers)[at]);
    default:
      static_cast<float*>(numbers)[at] = float(x);
  }
}

template <class Element>
void boxes_backward(const PsBoxesBackwardParams& p, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const PsGeometry& g = p.geometry;
  for (int64_t k = begin; k < end; ++k) {
    const PsRegion<T> region = ps_region<T>(g, k);
    BoxSums sums{};
    for (int64_t i = 0; i < g.bins_y && region.sound; ++i) {
      for (int64_t j = 0; j < g.bins_x; ++j) {
        const BoxSums bin = bin_sums<Element>(p, region, k, i, j);
        for (int64_t d = 0; d < 4; ++d) sums.d[d] += bin.d[d];
      }
    }
    const double samples = double(region.y.samples.grid) * double(region.x.samples.grid);
    const double factor = samples > 0 ? g.spatial_scale / samples : 0;
    store_number(g.boxes.dtype, p.grad_boxes, 5 * k, 0);
    for (int64_t d = 0; d < 4; ++d)
      store_number(g.boxes.dtype, p.grad_boxes, 5 * k + 1 + d, sums.d[d] * factor);
  }
}

}  // namespace

void ps_boxes_backward_cpu(const PsBoxesBackwardParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.geometry.dtype, boxes_backward, p, begin, end);
}

}  // namespace gcv::GCV_ISA
