// CUDA launchers of crop_and_resize. Free of torch. `mean` and `std` are in the memory of the host.
#pragma once

#include <cuda_runtime_api.h>

#include "roi/crop.h"

namespace gcv {

struct CropBoxesBackwardCudaParams {
  CropBoxesBackwardParams plain;
  double* sums;  // [K, 4]
};

cudaError_t crop_and_resize_cuda(const CropParams& p, cudaStream_t stream);
// Always deterministic: a thread sums what one pixel passed on, in the order of boxes. Needs no `sums`.
cudaError_t crop_and_resize_backward_cuda(const CropBackwardParams& p, cudaStream_t stream);
cudaError_t crop_and_resize_boxes_backward_cuda(const CropBoxesBackwardCudaParams& p, cudaStream_t stream);

}  // namespace gcv
