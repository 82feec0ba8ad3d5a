// Argument checks and allocation that the CPU and CUDA bindings share.
#pragma once

#include <tuple>

#include "common/torch_tensor.h"
#include "demo/demo.h"

namespace gcv {

inline void check_scaled_tanh(const char* op, const Tensor& x, const Tensor& scale) {
  GCV_REQUIRE(x.dim() == 4, op, ": x must be [N, C, H, W], got ", shape_text(x), ".");
  require_float(op, "x", x);
  GCV_REQUIRE(scale.dim() == 1, op, ": scale must be [C], got ", shape_text(scale), ".");
  GCV_REQUIRE(scale.size(0) == x.size(1), op, ": scale must have one entry per channel (", x.size(1),
              "), got ", scale.size(0), ".");
  require_like(op, "scale", scale, "x", x);
}

inline void check_scaled_tanh_backward(const Tensor& grad, const Tensor& x, const Tensor& scale) {
  const char* op = "scaled_tanh_backward";
  check_scaled_tanh(op, x, scale);
  require_same_shape(op, "grad", grad, "x", x.sizes());
  require_like(op, "grad", grad, "x", x);
}

inline Strides4 strides_of(const Tensor& t) { return {t.stride(0), t.stride(1), t.stride(2), t.stride(3)}; }
inline Sizes4 sizes_of(const Tensor& t) { return {t.size(0), t.size(1), t.size(2), t.size(3)}; }

// Calls run(ScaledTanhParams) and returns y, in x's memory format.
template <class Run>
Tensor scaled_tanh_with(const Tensor& x, const Tensor& scale, Run run) {
  check_scaled_tanh("scaled_tanh", x, scale);
  Tensor y = torch::stable::empty_like(x);
  run(ScaledTanhParams{x.const_data_ptr(), strides_of(x), scale.const_data_ptr(), scale.stride(0),
                       y.mutable_data_ptr(), strides_of(y), sizes_of(x), kernel_dtype(x.scalar_type())});
  return y;
}

template <class Run>
std::tuple<Tensor, Tensor> scaled_tanh_backward_with(const Tensor& grad, const Tensor& x, const Tensor& scale,
                                                     Run run) {
  check_scaled_tanh_backward(grad, x, scale);
  Tensor grad_x = torch::stable::empty_like(x);
  Tensor grad_scale = torch::stable::new_empty(scale, {scale.size(0)});
  run(ScaledTanhBackwardParams{grad.const_data_ptr(), strides_of(grad), x.const_data_ptr(), strides_of(x),
                               scale.const_data_ptr(), scale.stride(0), grad_x.mutable_data_ptr(),
                               strides_of(grad_x), grad_scale.mutable_data_ptr(), sizes_of(x),
                               kernel_dtype(x.scalar_type())});
  return {grad_x, grad_scale};
}

}  // namespace gcv
