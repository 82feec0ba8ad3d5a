// CUDA launchers of the room. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include "masked_conv/gate.h"
#include "masked_conv/masked_conv.h"
#include "masked_conv/tap_conv.h"

namespace gcv {

// The taps that show something, by their place in the kernel's plane and their rule: small enough to travel
// with a launch.
struct SeenTaps {
  uint32_t packed[kMostTaps];  // place * 4 + rule
  int64_t count;
};

inline SeenTaps seen_taps(const MaskGeometry& m) {
  SeenTaps seen{};
  for (int64_t place = 0; place < m.kernel_height * m.kernel_width; ++place) {
    if (m.taps[place] != 0) seen.packed[seen.count++] = uint32_t(place * 4 + m.taps[place]);
  }
  return seen;
}

// `mask.taps` is not read on the GPU.
struct MaskedConvParams {
  int64_t images, height, width, in_channels, out_channels;  // of the convolution, whatever is computed
  MaskGeometry mask;
  SeenTaps seen;
  ConvMaps input, grad;  // grad: of the sums
  ConvMaps output;       // of what is computed
  const void* weight;
  int64_t weight_strides[4];
  const void* bias;    // dense, or null
  ConvMaps condition;  // no data: nothing
  ConvEpilogue epilogue;
  DType dtype;
};

cudaError_t masked_conv_cuda(const MaskedConvParams& p, cudaStream_t stream);

// From `grad` to the gradient of the input, in `output`.
cudaError_t masked_conv_grad_input_cuda(const MaskedConvParams& p, cudaStream_t stream);

// From `grad` and `input` to the gradient of the weight, dense, in `output`; `workspace` has
// masked_conv_grad_weight_bytes(p) bytes.
size_t masked_conv_grad_weight_bytes(const MaskedConvParams& p);
cudaError_t masked_conv_grad_weight_cuda(const MaskedConvParams& p, void* workspace, cudaStream_t stream);

cudaError_t gate_cuda(const GateParams& p, cudaStream_t stream);
cudaError_t gate_backward_cuda(const GateParams& p, cudaStream_t stream);

}  // namespace gcv
