// Checks of the emulator's own tests.
#pragma once

#include <cuda_runtime.h>

#include <sstream>
#include <stdexcept>
#include <string>

#include "emulator/engine.h"

namespace gcv::emulator_test {

struct WrongResult : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct LaunchFailed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class T, class U>
void check_equal(const T& got, const U& expected, const char* what, int index = -1) {
  if (got == static_cast<T>(expected)) return;
  std::ostringstream text;
  text << what;
  if (index >= 0) text << ' ' << index;
  text << " is " << got << ", expected " << expected;
  throw WrongResult(text.str());
}

inline void check_launch(cudaError_t error) {
  if (error == cudaSuccess) return;
  if (error == cudaErrorLaunchFailure) throw LaunchFailed(gcv_emulator_last_error());
  throw LaunchFailed("CUDA error " + std::to_string(error));
}

}  // namespace gcv::emulator_test
