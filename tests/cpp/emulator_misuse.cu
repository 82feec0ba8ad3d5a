#include "common/cuda.h"
#include "emulator_misuse.h"

namespace gcv::emulator_test {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;

__global__ void foreign_mask_kernel(int* out) { out[lane_id()] = __shfl_sync(0x0000ffffu, 1, 0); }

__global__ void outside_source_kernel(int* out) {
  if (lane_id() < 16) out[lane_id()] = __shfl_sync(0x0000ffffu, 1, 20);
}

__global__ void returned_lane_kernel(int* out) {
  if (lane_id() == 5) return;
  out[lane_id()] = __any_sync(kAllLanes, 1);
}

__global__ void mixed_operations_kernel(int* out) {
  if (lane_id() < 16) {
    __syncwarp();
  } else {
    out[lane_id()] = __any_sync(kAllLanes, 1);
  }
}

__global__ void misaligned_row_kernel(int* out) {
  GCV_SHARED(__half, tile, [33][8]);
  for (int i = 0; i < 8; ++i) tile[lane_id()][i] = __float2half(1.0f);
  __syncwarp();
  uint32_t fragments[4];
  ldmatrix_x4(fragments, &tile[lane_id()][1]);
  out[lane_id()] = static_cast<int>(fragments[0]);
}

__global__ void misaligned_copy_kernel(int* out) {
  GCV_SHARED(int, tile, [40]);
  cp_async16(&tile[lane_id() + 1], out, true);
  cp_async_commit();
  cp_async_wait<0>();
}

__global__ void unfinished_copy_kernel(int* out) {
  GCV_SHARED(int, tile, [32][4]);
  cp_async16(tile[lane_id()], out, true);
  cp_async_commit();
}

__global__ void shared_memory_kernel(int* out) {
  GCV_SHARED(int, tile, [10000]);
  tile[lane_id()] = 1;
  out[lane_id()] = tile[lane_id()] + dyn_shared<int>()[0];
}

__device__ int descend(int depth, volatile int* out) {
  volatile int frame[64];
  frame[depth % 64] = out[0];
  return depth < 0 ? 0 : descend(depth + 1, frame) + frame[depth % 64];
}

__global__ void stack_overflow_kernel(int* out) { out[lane_id()] = descend(1, out); }

}  // namespace

cudaError_t misuse(Misuse kind, int* out) {
  const LaunchConfig one_warp{dim3(1), dim3(32)};
  switch (kind) {
    case Misuse::foreign_mask:
      return launch(foreign_mask_kernel, one_warp, out);
    case Misuse::outside_source:
      return launch(outside_source_kernel, one_warp, out);
    case Misuse::returned_lane:
      return launch(returned_lane_kernel, one_warp, out);
    case Misuse::mixed_operations:
      return launch(mixed_operations_kernel, one_warp, out);
    case Misuse::misaligned_row:
      return launch(misaligned_row_kernel, one_warp, out);
    case Misuse::misaligned_copy:
      return launch(misaligned_copy_kernel, one_warp, out);
    case Misuse::unfinished_copy:
      return launch(unfinished_copy_kernel, one_warp, out);
    case Misuse::shared_memory:
      return launch(shared_memory_kernel, {dim3(1), dim3(32), 200 * 1024}, out);
    case Misuse::stack_overflow:
      return launch(stack_overflow_kernel, one_warp, out);
  }
  return cudaErrorInvalidValue;
}

}  // namespace gcv::emulator_test
