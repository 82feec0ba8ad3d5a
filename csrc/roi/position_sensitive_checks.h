// Argument checks and allocation that the CPU and CUDA bindings of position-sensitive regions share; word for
// word the checks of gencv_fast/ops/roi/position_sensitive/checks.py.
#pragma once

#include "roi/position_sensitive.h"
#include "roi/region_checks.h"

namespace gcv {

// `input` is what the op calls its maps or their gradient.
inline void check_ps_planes(const char* op, const Shape& input) {
  GCV_REQUIRE(input[2] * input[3] <= kPsMostPixels, op, ": input must have at most ", kPsMostPixels,
              " pixels in a plane, got ", input[2], " x ", input[3], ".");
}

inline void check_ps_forward(const char* op, const Tensor& input, const Tensor& boxes,
                             const Shape& output_size) {
  check_regions(op, "input", input, boxes);
  const bool is_size = output_size.size() == 2 && output_size[0] > 0 && output_size[1] > 0;
  GCV_REQUIRE(is_size, op, ": output_size must be two positive numbers, got ",
              shape_text({output_size.data(), output_size.size()}), ".");
  GCV_REQUIRE(input.size(1) % (output_size[0] * output_size[1]) == 0, op, ": input must have a multiple of ",
              output_size[0], " * ", output_size[1], " channels, got ", input.size(1), ".");
  check_ps_planes(op, {input.size(0), input.size(1), input.size(2), input.size(3)});
}

inline void check_ps_grad(const char* op, const Tensor& grad, int64_t regions, int64_t channels) {
  GCV_REQUIRE(grad.dim() == 4 && grad.size(0) == regions && grad.size(2) * grad.size(3) > 0 &&
                  grad.size(1) * grad.size(2) * grad.size(3) == channels,
              op, ": grad must be [K, c, h, w] for ", regions, " boxes and c * h * w = ", channels,
              " channels, got ", shape_text(grad), ".");
}

inline void check_ps_backward(const char* op, const Tensor& grad, const Tensor& boxes,
                              const Shape& input_size) {
  check_regions(op, "grad", grad, boxes);
  bool is_size = input_size.size() == 4;
  for (int64_t size : input_size) is_size = is_size && size >= 0;
  GCV_REQUIRE(is_size, op, ": input_size must be four numbers that are not negative, got ",
              shape_text({input_size.data(), input_size.size()}), ".");
  check_ps_grad(op, grad, boxes.size(0), input_size[1]);
  check_ps_planes(op, input_size);
}

inline void check_ps_boxes_backward(const char* op, const Tensor& grad, const Tensor& input,
                                    const Tensor& boxes) {
  check_regions(op, "input", input, boxes);
  require_like(op, "grad", grad, "input", input);
  check_ps_grad(op, grad, boxes.size(0), input.size(1));
  check_ps_planes(op, {input.size(0), input.size(1), input.size(2), input.size(3)});
}

inline PsStrides ps_strides(const Tensor& t) {
  return {{t.stride(0), t.stride(1), t.stride(2), t.stride(3)}};
}

// What the ops differ in.
struct PsOptions {
  double spatial_scale;
  int64_t sampling_ratio;
  bool pool;
};

inline PsGeometry ps_geometry(const TensorRegions& boxes, const Shape& input, int64_t bins_y, int64_t bins_x,
                              const PsOptions& options, ScalarType type) {
  return {boxes.regions,
          input[0],
          input[1],
          input[2],
          input[3],
          bins_y,
          bins_x,
          options.spatial_scale,
          options.sampling_ratio,
          options.pool,
          kernel_dtype(type)};
}

// Calls run(PsForwardParams) and returns the output.
template <class Run>
Tensor ps_forward_with(const char* op, const Tensor& input, const Tensor& boxes, const Shape& output_size,
                       const PsOptions& options, Run run) {
  check_ps_forward(op, input, boxes, output_size);
  const TensorRegions regions = regions_of(boxes);
  const int64_t bins_y = output_size[0], bins_x = output_size[1];
  const Tensor output = new_output(input, {boxes.size(0), input.size(1) / (bins_y * bins_x), bins_y, bins_x});
  const Shape size{input.size(0), input.size(1), input.size(2), input.size(3)};
  const PsForwardParams p{ps_geometry(regions, size, bins_y, bins_x, options, input.scalar_type()),
                          input.const_data_ptr(), ps_strides(input), output.mutable_data_ptr()};
  run(op, regions, p);
  return output;
}

// Calls run(PsBackwardParams) and returns the gradient of the input.
template <class Run>
Tensor ps_backward_with(const char* op, const Tensor& grad, const Tensor& boxes, const Shape& input_size,
                        const PsOptions& options, Run run) {
  check_ps_backward(op, grad, boxes, input_size);
  const TensorRegions regions = regions_of(boxes);
  const Tensor grad_input = new_output(grad, {input_size.data(), input_size.size()});
  const PsBackwardParams p{
      ps_geometry(regions, input_size, grad.size(2), grad.size(3), options, grad.scalar_type()),
      grad.const_data_ptr(), ps_strides(grad), grad_input.mutable_data_ptr()};
  run(op, regions, p);
  return grad_input;
}

// Calls run(PsBoxesBackwardParams) and returns the gradient of the boxes.
template <class Run>
Tensor ps_boxes_backward_with(const char* op, const Tensor& grad, const Tensor& input, const Tensor& boxes,
                              const PsOptions& options, Run run) {
  check_ps_boxes_backward(op, grad, input, boxes);
  const TensorRegions regions = regions_of(boxes);
  const Tensor grad_boxes = torch::stable::new_empty(boxes, {boxes.size(0), 5});
  const Shape size{input.size(0), input.size(1), input.size(2), input.size(3)};
  const PsBoxesBackwardParams p{
      ps_geometry(regions, size, grad.size(2), grad.size(3), options, input.scalar_type()),
      grad.const_data_ptr(),
      ps_strides(grad),
      input.const_data_ptr(),
      ps_strides(input),
      grad_boxes.mutable_data_ptr()};
  run(op, regions, p);
  return grad_boxes;
}

}  // namespace gcv
