// CUDA launchers of encoding, decoding, clipping, removal of small boxes and format conversion. They queue
// work on `stream` and never synchronise. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "boxes/coding.h"
#include "boxes/convert.h"

namespace gcv {

cudaError_t box_encode_cuda(const BoxEncodeParams& p, cudaStream_t stream);
cudaError_t box_encode_backward_cuda(const BoxEncodeBackwardParams& p, cudaStream_t stream);
cudaError_t box_decode_cuda(const BoxDecodeParams& p, cudaStream_t stream);
cudaError_t box_decode_backward_cuda(const BoxDecodeBackwardParams& p, cudaStream_t stream);
cudaError_t clip_boxes_cuda(const ClipBoxesParams& p, cudaStream_t stream);
cudaError_t clip_boxes_backward_cuda(const ClipBoxesBackwardParams& p, cudaStream_t stream);
cudaError_t box_convert_cuda(const BoxConvertParams& p, cudaStream_t stream);
cudaError_t box_convert_backward_cuda(const BoxConvertBackwardParams& p, cudaStream_t stream);

// The workspace is aligned to 8.
size_t remove_small_boxes_cuda_workspace_bytes(const SmallBoxesParams& p);

// Writes the indices of the boxes that are large enough to indices[n], ascending, and how many to count[1].
cudaError_t remove_small_boxes_cuda(const SmallBoxesParams& p, void* workspace, int64_t* indices,
                                    int64_t* count, cudaStream_t stream);

}  // namespace gcv
