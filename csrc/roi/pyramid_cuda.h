// CUDA launchers of spatial pyramid pooling. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include "roi/pyramid.h"

namespace gcv {

cudaError_t pyramid_pool_cuda(const PyramidPoolParams& p, cudaStream_t stream);
// For maxima, `places` has one int32 for each feature of each region.
cudaError_t pyramid_backward_cuda(const PyramidBackwardParams& p, int32_t* places, cudaStream_t stream);
cudaError_t pyramid_at_cuda(const PyramidAtParams& p, cudaStream_t stream);

}  // namespace gcv
