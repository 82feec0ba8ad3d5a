// CUDA launchers of the demo room. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include "demo/demo.h"

namespace gcv {

cudaError_t scaled_tanh_cuda(const ScaledTanhParams& p, cudaStream_t stream);
cudaError_t scaled_tanh_backward_cuda(const ScaledTanhBackwardParams& p, cudaStream_t stream);

}  // namespace gcv
