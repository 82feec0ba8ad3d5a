// The few functions of the CUDA runtime that launchers call.
#pragma once

#include <cuda_runtime.h>

namespace gcv::emulator {

// For cudaGetLastError(); returns `error`.
cudaError_t record_error(cudaError_t error);

}  // namespace gcv::emulator
