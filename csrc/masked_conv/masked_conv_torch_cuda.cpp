// The room's operators for CUDA tensors; in the emulated build, for CPU tensors.
#include "common/torch_cuda.h"
#include "masked_conv/masked_conv_checks.h"
#include "masked_conv/masked_conv_cuda.h"

namespace gcv {
namespace {

ConvMaps conv_maps(const Tensor& t) {
  return {const_cast<void*>(t.const_data_ptr()), {t.stride(0), t.stride(1), t.stride(2), t.stride(3)}};
}

// One number for all pixels of an image has strides of 0.
ConvMaps conv_maps(const OptionalTensor& condition) {
  if (!condition) return {};
  if (condition->dim() == 4) return conv_maps(*condition);
  return {const_cast<void*>(condition->const_data_ptr()), {condition->stride(0), condition->stride(1), 0, 0}};
}

bool lies_channels_last(const Tensor& t) {
  return t.size(1) > 1 && t.stride(1) == 1 && t.stride(3) == t.size(1) &&
         t.stride(2) == t.size(1) * t.size(3);
}

// Of `channels`, lying in memory as `like` does.
Tensor new_conv_maps(const Tensor& like, int64_t channels) {
  const int64_t n = like.size(0), height = like.size(2), width = like.size(3);
  if (!lies_channels_last(like)) return new_output(like, {n, channels, height, width});
  const Tensor dense = new_output(like, {n, height, width, channels});
  return torch::stable::transpose(torch::stable::transpose(dense, 1, 3), 2, 3);
}

MaskedConvParams params_of(const Tensor& maps, const MaskGeometry& mask, int64_t out, int64_t in) {
  MaskedConvParams p{};
  p.images = maps.size(0);
  p.height = maps.size(2);
  p.width = maps.size(3);
  p.in_channels = in;
  p.out_channels = out;
  p.mask = mask;
  p.seen = seen_taps(mask);
  p.dtype = kernel_dtype(maps.scalar_type());
  return p;
}

void set_weight(MaskedConvParams& p, const Tensor& weight) {
  p.weight = weight.const_data_ptr();
  for (int64_t d = 0; d < 4; ++d) p.weight_strides[d] = weight.stride(d);
}

Tensor masked_conv2d(const Tensor& input, const Tensor& weight, const OptionalTensor& bias,
                     const OptionalTensor& condition, Numbers taps, int64_t channel_groups, int64_t halves,
                     Numbers dilation, Numbers shift, const std::string& activation) {
  const GeometryArguments geometry{taps, channel_groups, halves, dilation, shift};
  const MaskGeometry mask = check_masked_conv2d({input, weight, bias, condition, geometry, activation});
  const int64_t out = weight.size(0);
  MaskedConvParams p = params_of(input, mask, out, input.size(1));
  p.epilogue = epilogue_of("masked_conv2d", activation);
  const Tensor output = new_conv_maps(input, p.epilogue == ConvEpilogue::gate         ? out / 2
                                             : p.epilogue == ConvEpilogue::concat_elu ? 2 * out
                                                                                      : out);
  OptionalTensor dense;
  if (bias) dense = torch::stable::contiguous(*bias);
  p.input = conv_maps(input);
  p.output = conv_maps(output);
  set_weight(p, weight);
  p.bias = dense ? dense->const_data_ptr() : nullptr;
  p.condition = conv_maps(condition);
  on_current_stream(input, masked_conv_cuda)(p);
  return output;
}

Tensor masked_conv2d_grad_input(const Tensor& grad, const Tensor& weight, Numbers taps,
                                int64_t channel_groups, int64_t halves, Numbers dilation, Numbers shift) {
  const GeometryArguments geometry{taps, channel_groups, halves, dilation, shift};
  const MaskGeometry mask = check_masked_conv2d_grad_input(grad, weight, geometry);
  MaskedConvParams p = params_of(grad, mask, weight.size(0), weight.size(1));
  const Tensor grad_input = new_conv_maps(grad, weight.size(1));
  p.grad = conv_maps(grad);
  p.output = conv_maps(grad_input);
  set_weight(p, weight);
  on_current_stream(grad, masked_conv_grad_input_cuda)(p);
  return grad_input;
}

Tensor masked_conv2d_grad_weight(const Tensor& grad, const Tensor& input, Numbers taps, Numbers kernel_size,
                                 int64_t channel_groups, int64_t halves, Numbers dilation, Numbers shift) {
  const GeometryArguments geometry{taps, channel_groups, halves, dilation, shift};
  const MaskGeometry mask = check_masked_conv2d_grad_weight(grad, input, kernel_size, geometry);
  const int64_t out = grad.size(1), in = input.size(1);
  MaskedConvParams p = params_of(grad, mask, out, in);
  const Tensor grad_weight = torch::stable::new_empty(grad, Shape{out, in, kernel_size[0], kernel_size[1]});
  p.grad = conv_maps(grad);
  p.input = conv_maps(input);
  p.output = conv_maps(grad_weight);
  const Tensor workspace = new_workspace(grad, masked_conv_grad_weight_bytes(p));
  const CurrentStream stream(grad);
  check_cuda(masked_conv_grad_weight_cuda(p, workspace.mutable_data_ptr(), stream.get()));
  return grad_weight;
}

GateParams gate_params_of(const Tensor& input, const OptionalTensor& condition) {
  GateParams p{};
  p.images = input.size(0);
  p.channels = input.size(1) / 2;
  p.height = input.size(2);
  p.width = input.size(3);
  p.sums = conv_maps(input);
  p.condition = conv_maps(condition);
  p.dtype = kernel_dtype(input.scalar_type());
  return p;
}

Tensor gated_activation(const Tensor& input, const OptionalTensor& condition) {
  check_gated_activation("gated_activation", input, condition);
  GateParams p = gate_params_of(input, condition);
  const Tensor output = new_conv_maps(input, p.channels);
  p.output = conv_maps(output);
  on_current_stream(input, gate_cuda)(p);
  return output;
}

Tensor gated_activation_backward(const Tensor& grad, const Tensor& input, const OptionalTensor& condition) {
  check_gated_activation_backward(grad, input, condition);
  GateParams p = gate_params_of(input, condition);
  const Tensor grad_sums = new_conv_maps(input, input.size(1));
  p.grad = conv_maps(grad);
  p.grad_sums = conv_maps(grad_sums);
  on_current_stream(input, gate_backward_cuda)(p);
  return grad_sums;
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def(
      "masked_conv2d(Tensor input, Tensor weight, Tensor? bias, Tensor? condition, int[] taps, int "
      "channel_groups, "
      "int halves, int[] dilation, int[] shift, str activation) -> Tensor");
  m.def(
      "masked_conv2d_grad_input(Tensor grad, Tensor weight, int[] taps, int channel_groups, int halves, "
      "int[] dilation, int[] shift) -> Tensor");
  m.def(
      "masked_conv2d_grad_weight(Tensor grad, Tensor input, int[] taps, int[] kernel_size, int "
      "channel_groups, "
      "int halves, int[] dilation, int[] shift) -> Tensor");
  m.def("gated_activation(Tensor input, Tensor? condition) -> Tensor");
  m.def("gated_activation_backward(Tensor grad, Tensor input, Tensor? condition) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("masked_conv2d", TORCH_BOX(&masked_conv2d));
  m.impl("masked_conv2d_grad_input", TORCH_BOX(&masked_conv2d_grad_input));
  m.impl("masked_conv2d_grad_weight", TORCH_BOX(&masked_conv2d_grad_weight));
  m.impl("gated_activation", TORCH_BOX(&gated_activation));
  m.impl("gated_activation_backward", TORCH_BOX(&gated_activation_backward));
}

}  // namespace
}  // namespace gcv
