// CUDA launcher of the room. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include "pixel_sampling/program.h"

namespace gcv {

// Draws lines [first, first + count) of all images in one launch. All of the program's pointers are of the
// device, `packed` is not used, and sums lie densely. `params`, if not null: [count, pixels, images, C],
// what the levels were drawn from.
cudaError_t pixel_sampling_cuda(const SamplingProgram& p, int64_t first, int64_t count, void* params,
                                cudaStream_t stream);

}  // namespace gcv
