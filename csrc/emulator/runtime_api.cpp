#include "emulator/runtime_api.h"

#include <cstring>

namespace gcv::emulator {
namespace {

thread_local cudaError_t last_status = cudaSuccess;

}  // namespace

cudaError_t record_error(cudaError_t error) {
  last_status = error;
  return error;
}

}  // namespace gcv::emulator

// Hidden, so that a process which also holds the true CUDA runtime keeps the two apart. Nothing is deferred:
// a stream is always idle.
#pragma GCC visibility push(hidden)
extern "C" {

cudaError_t cudaGetLastError() {
  const cudaError_t status = gcv::emulator::last_status;
  gcv::emulator::last_status = cudaSuccess;
  return status;
}

cudaError_t cudaPeekAtLastError() { return gcv::emulator::last_status; }

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorCooperativeLaunchTooLarge:
      return "too many blocks in cooperative launch";
    case cudaErrorLaunchFailure:
      return "the emulated launch failed, see gcv_emulator_last_error()";
    default:
      return "another CUDA error";
  }
}

cudaError_t cudaMemsetAsync(void* destination, int value, size_t bytes, cudaStream_t) {
  std::memset(destination, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* destination, const void* source, size_t bytes, cudaMemcpyKind,
                            cudaStream_t) {
  std::memcpy(destination, source, bytes);
  return cudaSuccess;
}

}  // extern "C"
#pragma GCC visibility pop
