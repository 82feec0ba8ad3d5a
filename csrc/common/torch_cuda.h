// What the bindings for CUDA tensors share; in the emulated build the same code serves CPU tensors. Only
// *_torch_cuda.cpp files include this.
#pragma once

#include <cuda_runtime_api.h>
#ifndef GCV_EMULATED
#include <torch/csrc/stable/accelerator.h>
#endif

#include "common/torch_tensor.h"

#ifdef GCV_EMULATED
extern "C" const char* gcv_emulator_last_error();
#endif

namespace gcv {

#ifdef GCV_EMULATED

struct CurrentStream {
  explicit CurrentStream(const Tensor&) {}
  cudaStream_t get() const { return nullptr; }
};

inline void check_cuda(cudaError_t error) {
  GCV_REQUIRE(error == cudaSuccess, "CUDA error: ", cudaGetErrorString(error), ": ",
              gcv_emulator_last_error());
}

#else

// The current stream of the tensor's device, which becomes the current device for as long as this lives.
class CurrentStream {
 public:
  explicit CurrentStream(const Tensor& tensor) : guard_(tensor.get_device()) {
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device(), &stream_));
  }
  cudaStream_t get() const { return static_cast<cudaStream_t>(stream_); }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  void* stream_ = nullptr;
};

inline void check_cuda(cudaError_t error) { STD_CUDA_CHECK(error); }

#endif

// A function of Params that calls `launch` with them on the current stream of the tensor's device.
template <class Params>
auto on_current_stream(const Tensor& tensor, cudaError_t (*launch)(const Params&, cudaStream_t)) {
  return [&tensor, launch](const Params& p) {
    const CurrentStream stream(tensor);
    check_cuda(launch(p, stream.get()));
  };
}

inline Tensor new_workspace(const Tensor& like, size_t bytes) {
  return torch::stable::new_empty(like, {int64_t(bytes)}, ScalarType::Byte);
}

// Waits for the device: only for the size of a result, once per call.
inline int64_t read_count(const Tensor& count) {
  return *torch::stable::to(count, torch::stable::Device(torch::headeronly::DeviceType::CPU))
              .const_data_ptr<int64_t>();
}

}  // namespace gcv
