// CUDA launchers of the overlap metrics and losses. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include "boxes/iou_params.h"

namespace gcv {

cudaError_t pairwise_iou_cuda(const PairwiseIouParams& p, cudaStream_t stream);
cudaError_t pairwise_iou_backward_cuda(const PairwiseIouBackwardParams& p, cudaStream_t stream);
cudaError_t iou_loss_cuda(const IouLossParams& p, cudaStream_t stream);
cudaError_t iou_loss_backward_cuda(const IouLossBackwardParams& p, cudaStream_t stream);

}  // namespace gcv
