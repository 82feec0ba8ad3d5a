// CUDA launchers of RoI pooling. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include "roi/roi_pool.h"

namespace gcv {

cudaError_t roi_pool_cuda(const RoiPoolParams& p, cudaStream_t stream);
cudaError_t roi_pool_pick_cuda(const RoiPoolPickParams& p, cudaStream_t stream);

// `maxima` has room for the pixel number of each bin of each channel and region: [regions, channels, rows,
// columns].
cudaError_t roi_pool_backward_cuda(const RoiPoolBackwardParams& p, int32_t* maxima, cudaStream_t stream);

}  // namespace gcv
