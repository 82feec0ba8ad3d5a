// What the CPU and CUDA bindings make of the arguments: the checks, which checks.py makes for the other
// backends, and the kernels' parameters.
#pragma once

#include <optional>

#include "common/torch_tensor.h"
#include "mixture/mixture.h"

namespace gcv {

inline MixtureArray mixture_array(const Tensor& t) {
  return {t.const_data_ptr(), {t.stride(0), t.stride(1), t.stride(2), t.stride(3)}};
}

inline MixtureMaps mixture_maps(const char* op, const Tensor& params, int64_t colours) {
  GCV_REQUIRE(colours == 1 || colours == 3, op, ": channels must be 1 or 3, got ", colours, ".");
  require_float(op, "params", params);
  GCV_REQUIRE(params.dim() == 4, op, ": params must be [N, C, H, W], got ", shape_text(params), ".");
  const int64_t blocks = colours == 3 ? 10 : 3, channels = params.size(1);
  GCV_REQUIRE(channels > 0 && channels % blocks == 0, op, ": params must have a multiple of ", blocks,
              " channels where channels is ", colours, ", got ", channels, ".");
  return {mixture_array(params),
          params.size(0),
          params.size(2),
          params.size(3),
          channels / blocks,
          colours,
          kernel_dtype(params.scalar_type())};
}

inline MixtureNllParams mixture_nll_params(const char* op, const Tensor& params, const Tensor& x,
                                           int64_t channels) {
  MixtureNllParams p{};
  p.maps = mixture_maps(op, params, channels);
  p.x_holds_levels = x.scalar_type() == ScalarType::Byte;
  GCV_REQUIRE(p.x_holds_levels || x.scalar_type() == params.scalar_type(), op,
              ": x must be uint8 or have the dtype of params (", dtype_name(params.scalar_type()), "), got ",
              dtype_name(x.scalar_type()), ".");
  require_device(op, "x", x, "params", params);
  require_same_shape(op, "x", x, "the image", Shape{p.maps.batch, channels, p.maps.height, p.maps.width});
  p.x = mixture_array(x);
  return p;
}

inline ScalarType mixture_nll_dtype(const MixtureMaps& m) {
  return m.dtype == DType::f64 ? ScalarType::Double : ScalarType::Float;
}

// Calls run(MixtureNllParams) and returns the loss of each pixel.
template <class Run>
Tensor mixture_nll_with(const Tensor& params, const Tensor& x, int64_t channels, Run run) {
  MixtureNllParams p = mixture_nll_params("mixture_logistics_nll", params, x, channels);
  const Tensor nll = torch::stable::new_empty(params, {p.maps.batch, p.maps.height, p.maps.width},
                                              mixture_nll_dtype(p.maps));
  p.nll = nll.mutable_data_ptr();
  run(p);
  return nll;
}

inline MixtureArray mixture_gradient(const char* op, const Tensor& t, const Tensor& params,
                                     const MixtureMaps& m) {
  const char* name = "grad";
  const ScalarType dtype = mixture_nll_dtype(m);
  GCV_REQUIRE(t.scalar_type() == dtype, op, ": ", name, " must have the dtype of the loss (",
              dtype_name(dtype), "), got ", dtype_name(t.scalar_type()), ".");
  require_device(op, name, t, "params", params);
  require_same_shape(op, name, t, "the loss", Shape{m.batch, m.height, m.width});
  return {t.const_data_ptr(), {t.stride(0), 0, t.stride(1), t.stride(2)}};
}

template <class Run>
Tensor mixture_nll_backward_with(const Tensor& grad, const Tensor& params, const Tensor& x, int64_t channels,
                                 Run run) {
  const char* op = "mixture_logistics_nll_backward";
  MixtureNllBackwardParams p{};
  p.forward = mixture_nll_params(op, params, x, channels);
  p.grad = mixture_gradient(op, grad, params, p.forward.maps);
  const Tensor grad_params = new_output_like(params);
  p.grad_params = grad_params.mutable_data_ptr();
  for (int64_t d = 0; d < 4; ++d) p.grad_params_strides[d] = grad_params.stride(d);
  run(p);
  return grad_params;
}

// Calls run(MixtureSampleParams) and returns the levels.
template <class Run>
Tensor mixture_sample_with(const Tensor& params, int64_t channels, int64_t seed, double temperature,
                           const std::optional<Tensor>& noise, Run run) {
  const char* op = "mixture_logistics_sample";
  GCV_REQUIRE(temperature > 0, op, ": temperature must be positive, got ", temperature, ".");
  MixtureSampleParams p{};
  p.maps = mixture_maps(op, params, channels);
  p.seed = uint64_t(seed);
  p.temperature = temperature;
  if (noise) {
    GCV_REQUIRE(noise->scalar_type() == ScalarType::Float, op, ": noise must be float32, got ",
                dtype_name(noise->scalar_type()), ".");
    require_device(op, "noise", *noise, "params", params);
    require_same_shape(op, "noise", *noise, "a number for the component and for each colour",
                       Shape{p.maps.batch, 1 + channels, p.maps.height, p.maps.width});
    p.noise = mixture_array(*noise);
  }
  const Tensor levels = torch::stable::new_empty(
      params, {p.maps.batch, channels, p.maps.height, p.maps.width}, ScalarType::Byte);
  p.levels = levels.mutable_data_ptr<uint8_t>();
  run(p);
  return levels;
}

}  // namespace gcv
