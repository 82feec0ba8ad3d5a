// CUDA launchers of the room. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include "mixture/mixture.h"

namespace gcv {

cudaError_t mixture_nll_cuda(const MixtureNllParams& p, cudaStream_t stream);
cudaError_t mixture_nll_backward_cuda(const MixtureNllBackwardParams& p, cudaStream_t stream);
cudaError_t mixture_sample_cuda(const MixtureSampleParams& p, cudaStream_t stream);

}  // namespace gcv
