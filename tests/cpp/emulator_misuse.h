// Kernels that break a rule of CUDA which the emulator checks.
#pragma once

#include <cuda_runtime.h>

namespace gcv::emulator_test {

enum class Misuse {
  foreign_mask,      // a shuffle by lanes that its mask does not name
  outside_source,    // a shuffle from a lane that its mask does not name
  returned_lane,     // a vote whose mask names a lane that has returned
  mixed_operations,  // lanes that meet at different warp operations
  misaligned_row,    // ldmatrix
  misaligned_copy,   // cp.async
  unfinished_copy,   // returns without waiting for its cp.async
  shared_memory,     // 239 KiB in one block
  stack_overflow,
};

// `out` has room for 32 values.
cudaError_t misuse(Misuse kind, int* out);

}  // namespace gcv::emulator_test
