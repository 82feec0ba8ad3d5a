// CUDA launcher of the room. It queues work on `stream` and never synchronises. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include "rpn/rpn.h"

namespace gcv {

// Images whose work is queued together. The number of launches grows with the number of such groups, and no
// further with images or levels; so does not the workspace.
constexpr int kRpnImagesPerGroup = 64;

struct RpnCudaParams {
  RpnParams rpn;    // image_sizes may be freed once the launcher has returned
  int chunk_rows;   // rows of a level decided at a time: a multiple of 64, at most 2048
  void* workspace;  // rpn_proposals_cuda_workspace_bytes(p), aligned to 64
};

constexpr int kRpnChunkRows = 1024;  // the fastest up to twice as many candidates per level; 128 KiB for each

size_t rpn_proposals_cuda_workspace_bytes(const RpnCudaParams& p);
cudaError_t rpn_proposals_cuda(const RpnCudaParams& p, cudaStream_t stream);

}  // namespace gcv
