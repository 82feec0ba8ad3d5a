// CUDA launcher of the matcher. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include "boxes/matching.h"

namespace gcv {

// The workspace is 256-byte aligned; it grows with the number of gts times anchors / 256, and only where
// low-quality matches are allowed.
size_t match_cuda_workspace_bytes(const MatchParams& p);
cudaError_t match_cuda(const MatchParams& p, void* workspace, cudaStream_t stream);

}  // namespace gcv
