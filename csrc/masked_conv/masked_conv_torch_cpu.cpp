// The room's operators for CPU tensors.
#include "masked_conv/masked_conv_checks.h"
#include "masked_conv/tap_conv_torch_cpu.h"

namespace gcv {
namespace {

// One number for all pixels of an image has strides of 0; it borrows the condition's memory.
OptionalTensor over_pixels(const OptionalTensor& condition, const Tensor& input) {
  if (!condition || condition->dim() == 4) return condition;
  const Shape shape{condition->size(0), condition->size(1), input.size(2), input.size(3)};
  const Shape strides{condition->stride(0), condition->stride(1), 0, 0};
  return torch::stable::from_blob(const_cast<void*>(condition->const_data_ptr()), shape, strides,
                                  condition->device(), condition->scalar_type());
}

const Tensor* pointer(const OptionalTensor& tensor) { return tensor ? &*tensor : nullptr; }

Tensor masked_conv2d(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
                     const OptionalTensor& condition, Numbers taps, int64_t channel_groups, int64_t halves,
                     Numbers dilation, Numbers shift, const std::string& activation) {
  const GeometryArguments geometry{taps, channel_groups, halves, dilation, shift};
  const MaskGeometry mask = check_masked_conv2d({input, weight, bias, condition, geometry, activation});
  const OptionalTensor pixels = over_pixels(condition, input);
  OptionalTensor dense;
  if (bias) dense = torch::stable::contiguous(*bias);
  return tap_conv(input, weight, {pointer(dense), pointer(pixels)},
                  tap_lists(mask, weight.size(0), input.size(1)), epilogue_of("masked_conv2d", activation));
}

// A convolution of the gradient by the transposed weight, over the taps turned around.
Tensor masked_conv2d_grad_input(const Tensor& grad, const Tensor& weight, Numbers taps,
                                int64_t channel_groups, int64_t halves, Numbers dilation, Numbers shift) {
  const GeometryArguments geometry{taps, channel_groups, halves, dilation, shift};
  const MaskGeometry mask = check_masked_conv2d_grad_input(grad, weight, geometry);
  const TapLists lists = tap_lists(mask, weight.size(0), weight.size(1)).transposed(weight.size(1));
  return tap_conv(grad, torch::stable::transpose(weight, 0, 1), {nullptr, nullptr}, lists,
                  ConvEpilogue::none);
}

Tensor masked_conv2d_grad_weight(const Tensor& grad, const Tensor& input, Numbers taps, Numbers kernel_size,
                                 int64_t channel_groups, int64_t halves, Numbers dilation, Numbers shift) {
  const GeometryArguments geometry{taps, channel_groups, halves, dilation, shift};
  const MaskGeometry mask = check_masked_conv2d_grad_weight(grad, input, kernel_size, geometry);
  const Shape shape{grad.size(1), input.size(1), kernel_size[0], kernel_size[1]};
  return tap_conv_grad_weight(grad, input, shape, tap_lists(mask, shape[0], shape[1]));
}

Tensor gated_activation(const Tensor& input, const OptionalTensor& condition) {
  check_gated_activation("gated_activation", input, condition);
  const OptionalTensor pixels = over_pixels(condition, input);
  return gate_of(input, pointer(pixels));
}

Tensor gated_activation_backward(const Tensor& grad, const Tensor& input, const OptionalTensor& condition) {
  check_gated_activation_backward(grad, input, condition);
  const OptionalTensor pixels = over_pixels(condition, input);
  return gate_grad_sums(grad, input, pointer(pixels));
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) {
  m.impl("gated_activation", TORCH_BOX(&gated_activation));
  m.impl("gated_activation_backward", TORCH_BOX(&gated_activation_backward));
  m.impl("masked_conv2d", TORCH_BOX(&masked_conv2d));
  m.impl("masked_conv2d_grad_input", TORCH_BOX(&masked_conv2d_grad_input));
  m.impl("masked_conv2d_grad_weight", TORCH_BOX(&masked_conv2d_grad_weight));
}

}  // namespace
}  // namespace gcv
