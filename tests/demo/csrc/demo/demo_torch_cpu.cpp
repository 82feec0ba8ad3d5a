// The demo room's operators for CPU tensors.
#include "demo/demo_checks.h"

namespace gcv {
namespace {

template <class Body>
void for_channels(int64_t channels, Body body) {
  torch::stable::parallel_for(0, channels, 1, body);
}

Tensor scaled_tanh(const Tensor& x, const Tensor& scale) {
  return scaled_tanh_with(x, scale, [](const ScaledTanhParams& p) {
    for_channels(p.size.c, [&](int64_t begin, int64_t end) { scaled_tanh_cpu(p, begin, end); });
  });
}

std::tuple<Tensor, Tensor> scaled_tanh_backward(const Tensor& grad, const Tensor& x, const Tensor& scale) {
  return scaled_tanh_backward_with(grad, x, scale, [](const ScaledTanhBackwardParams& p) {
    for_channels(p.size.c, [&](int64_t begin, int64_t end) { scaled_tanh_backward_cpu(p, begin, end); });
  });
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) {
  m.impl("scaled_tanh", TORCH_BOX(&scaled_tanh));
  m.impl("scaled_tanh_backward", TORCH_BOX(&scaled_tanh_backward));
}

}  // namespace
}  // namespace gcv
