// The room's operators for CPU tensors.
#include "common/share_out.h"
#include "mixture/mixture_checks.h"

namespace gcv {
namespace {

// Blocks of 64 pixels: a few take as long as waking a thread.
constexpr int64_t kGrain = 4;

template <class Params>
auto in_blocks(void (*kernel)(const Params&, int64_t, int64_t)) {
  return [kernel](const Params& p) {
    torch::stable::parallel_for(0, p.maps.batch * mixture_blocks(p.maps), kGrain,
                                [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
  };
}

Tensor nll(const Tensor& params, const Tensor& x, int64_t channels) {
  return mixture_nll_with(params, x, channels, in_blocks(mixture_nll_cpu));
}

void run_backward(const MixtureNllBackwardParams& p) {
  const int64_t blocks = p.forward.maps.batch * mixture_blocks(p.forward.maps);
  share_out(blocks, kGrain, blocks / kGrain, mixture_nll_backward_workspace_bytes(p),
            [&](void* workspace, int64_t begin, int64_t end) {
              mixture_nll_backward_cpu(p, workspace, begin, end);
            });
}

Tensor nll_backward(const Tensor& grad, const Tensor& params, const Tensor& x, int64_t channels) {
  return mixture_nll_backward_with(grad, params, x, channels, run_backward);
}

Tensor sample(const Tensor& params, int64_t channels, int64_t seed, double temperature,
              std::optional<Tensor> noise) {
  return mixture_sample_with(params, channels, seed, temperature, noise, in_blocks(mixture_sample_cpu));
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) {
  m.impl("mixture_logistics_nll", TORCH_BOX(&nll));
  m.impl("mixture_logistics_nll_backward", TORCH_BOX(&nll_backward));
  m.impl("mixture_logistics_sample", TORCH_BOX(&sample));
}

}  // namespace
}  // namespace gcv
