// CUDA launchers of RoI align, on one map or on the levels of a pyramid. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "roi/roi_align.h"

namespace gcv {

// Memory that a launch needs besides, aligned to 16 bytes; often none.
size_t roi_align_cuda_workspace_bytes(const RoiAlignParams& p);
size_t roi_align_backward_cuda_workspace_bytes(const RoiAlignBackwardParams& p);

cudaError_t roi_align_cuda(const RoiAlignParams& p, void* workspace, cudaStream_t stream);

// Always deterministic.
cudaError_t roi_align_backward_cuda(const RoiAlignBackwardParams& p, void* workspace, cudaStream_t stream);

}  // namespace gcv
