// CUDA launchers of position-sensitive regions. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include "roi/position_sensitive.h"

namespace gcv {

cudaError_t ps_forward_cuda(const PsForwardParams& p, cudaStream_t stream);
cudaError_t ps_backward_cuda(const PsBackwardParams& p, cudaStream_t stream);
cudaError_t ps_boxes_backward_cuda(const PsBoxesBackwardParams& p, cudaStream_t stream);

}  // namespace gcv
