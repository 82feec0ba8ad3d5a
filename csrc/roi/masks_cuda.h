// CUDA launchers of the wing. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include "roi/masks.h"

namespace gcv {

cudaError_t paste_masks_cuda(const PasteMasksParams& p, cudaStream_t stream);
cudaError_t paste_masks_backward_cuda(const PasteMasksBackwardParams& p, cudaStream_t stream);

}  // namespace gcv
