// Argument checks and parameters that the CPU and CUDA bindings of RoI pooling share; the sentences are those
// of gencv_fast/ops/roi/pool/contract.py.
#pragma once

#include "roi/region_checks.h"
#include "roi/roi_pool.h"

namespace gcv {

inline void check_roi_pool(const char* op, const Tensor& input, const Tensor& boxes,
                           const Shape& output_size) {
  check_regions(op, "input", input, boxes);
  const bool is_size = output_size.size() == 2 && output_size[0] > 0 && output_size[1] > 0;
  GCV_REQUIRE(is_size, op, ": output_size must be two positive numbers, got ",
              shape_text({output_size.data(), output_size.size()}), ".");
}

inline void check_pixel_numbers(const char* op, const Tensor& input) {
  const int64_t pixels = input.size(2) * input.size(3);
  GCV_REQUIRE(pixels <= kMostPixels, op, ": input must have at most ", kMostPixels, " pixels in a map, got ",
              pixels, ".");
}

inline void check_roi_pool_backward(const Tensor& grad, const Tensor& input, const Tensor& boxes) {
  const char* op = "roi_pool_backward";
  check_regions(op, "input", input, boxes);
  require_like(op, "grad", grad, "input", input);
  const bool fits = grad.dim() == 4 && grad.size(0) == boxes.size(0) && grad.size(1) == input.size(1) &&
                    grad.size(2) > 0 && grad.size(3) > 0;
  GCV_REQUIRE(fits, op, ": grad must be [", boxes.size(0), ", ", input.size(1),
              ", rows, columns] with rows and columns, got ", shape_text(grad), ".");
  check_pixel_numbers(op, input);
}

inline void check_roi_pool_pick(const Tensor& values, const Tensor& input, const Tensor& boxes,
                                const Shape& output_size) {
  const char* op = "roi_pool_pick";
  check_roi_pool(op, input, boxes, output_size);
  require_like(op, "values", values, "input", input);
  require_same_shape(op, "values", values, "input", input.sizes());
  check_pixel_numbers(op, input);
}

inline PoolMaps maps_of(const Tensor& t) {
  return {const_cast<void*>(t.const_data_ptr()), {t.stride(0), t.stride(1), t.stride(2), t.stride(3)}};
}

inline PoolShape shape_of(const Tensor& input, const TensorRegions& boxes, int64_t rows, int64_t columns,
                          double spatial_scale) {
  return {input.size(0), input.size(1), input.size(2),
          input.size(3), boxes.regions, rows,
          columns,       spatial_scale, kernel_dtype(input.scalar_type())};
}

inline bool is_empty(const PoolShape& s) { return s.regions.count == 0 || s.channels == 0; }

inline Tensor new_bins(const Tensor& input, const Tensor& boxes, const Shape& output_size) {
  return new_output(input, {boxes.size(0), input.size(1), output_size[0], output_size[1]});
}

// Each calls run(what keeps the regions, params) unless there is nothing to do.

template <class Run>
Tensor roi_pool_with(const Tensor& input, const Tensor& boxes, const Shape& output_size, double spatial_scale,
                     const Run& run) {
  check_roi_pool("roi_pool", input, boxes, output_size);
  check_spatial_scale("roi_pool", spatial_scale);
  const Tensor output = new_bins(input, boxes, output_size);
  const TensorRegions regions = regions_of(boxes);
  run(regions, RoiPoolParams{shape_of(input, regions, output_size[0], output_size[1], spatial_scale),
                             maps_of(input), output.mutable_data_ptr()});
  return output;
}

template <class Run>
Tensor roi_pool_pick_with(const Tensor& values, const Tensor& input, const Tensor& boxes,
                          const Shape& output_size, double spatial_scale, const Run& run) {
  check_roi_pool_pick(values, input, boxes, output_size);
  check_spatial_scale("roi_pool_pick", spatial_scale);
  const Tensor output = new_bins(input, boxes, output_size);
  const TensorRegions regions = regions_of(boxes);
  run(regions, RoiPoolPickParams{shape_of(input, regions, output_size[0], output_size[1], spatial_scale),
                                 maps_of(values), maps_of(input), output.mutable_data_ptr()});
  return output;
}

// The gradient lies in memory as the input does.
template <class Run>
Tensor roi_pool_backward_with(const Tensor& grad, const Tensor& input, const Tensor& boxes,
                              double spatial_scale, const Run& run) {
  check_roi_pool_backward(grad, input, boxes);
  check_spatial_scale("roi_pool_backward", spatial_scale);
  const Tensor grad_input = new_output_like(input);
  const TensorRegions regions = regions_of(boxes);
  run(regions, RoiPoolBackwardParams{shape_of(input, regions, grad.size(2), grad.size(3), spatial_scale),
                                     maps_of(grad), maps_of(input), maps_of(grad_input)});
  return grad_input;
}

}  // namespace gcv
