// What every *_cuda.cu includes: the few constructs that need two spellings, one for nvcc and one for the
// emulator (csrc/emulator/), which compiles the same file with g++. Everything else is plain CUDA C++.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace gcv {

struct LaunchConfig {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
};

}  // namespace gcv

#ifdef GCV_EMULATED

#include "emulator/constructs.h"

#else

// GCV_SHARED(float, tile, [32][33]) declares a block-shared array; without the third argument, a scalar.
#define GCV_SHARED(T, name, ...) __shared__ T name __VA_ARGS__

namespace gcv {

// The dynamic shared memory of the launch, 128-byte aligned.
template <class T>
__device__ __forceinline__ T* dyn_shared() {
  extern __shared__ __align__(128) unsigned char gcv_dynamic_shared[];
  return reinterpret_cast<T*>(gcv_dynamic_shared);
}

__device__ __forceinline__ unsigned lane_id() {
  unsigned lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

namespace detail {

template <class Kernel>
inline cudaError_t allow_shared_bytes(Kernel kernel, size_t bytes) {
  constexpr size_t granted_without_asking = 48 * 1024;
  if (bytes <= granted_without_asking) return cudaSuccess;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

template <class... Params, class... Args>
inline cudaError_t launch(void (*kernel)(Params...), const LaunchConfig& config, bool cooperative,
                          Args&&... args) {
  if (cudaError_t error = allow_shared_bytes(kernel, config.shared_bytes)) return error;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t cuda_config{};
  cuda_config.gridDim = config.grid;
  cuda_config.blockDim = config.block;
  cuda_config.dynamicSmemBytes = config.shared_bytes;
  cuda_config.stream = config.stream;
  cuda_config.attrs = &attribute;
  cuda_config.numAttrs = cooperative ? 1 : 0;
  return cudaLaunchKernelEx(&cuda_config, kernel, static_cast<Params>(std::forward<Args>(args))...);
}

}  // namespace detail

// kernel<<<grid, block, shared_bytes, stream>>>(args...), which g++ cannot parse.
template <class... Params, class... Args>
inline cudaError_t launch(void (*kernel)(Params...), const LaunchConfig& config, Args&&... args) {
  return detail::launch(kernel, config, false, std::forward<Args>(args)...);
}

// As launch(), but all blocks are resident at once, so they may wait for each other (grid_barrier,
// spin_wait).
template <class... Params, class... Args>
inline cudaError_t launch_cooperative(void (*kernel)(Params...), const LaunchConfig& config, Args&&... args) {
  return detail::launch(kernel, config, true, std::forward<Args>(args)...);
}

// The largest grid that launch_cooperative accepts on the current device.
template <class Kernel>
inline cudaError_t max_cooperative_blocks(Kernel kernel, int block_threads, size_t shared_bytes,
                                          int* blocks) {
  if (cudaError_t error = detail::allow_shared_bytes(kernel, shared_bytes)) return error;
  int device = 0, processors = 0, blocks_per_processor = 0;
  if (cudaError_t error = cudaGetDevice(&device)) return error;
  if (cudaError_t error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device))
    return error;
  if (cudaError_t error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks_per_processor, kernel,
                                                                        block_threads, shared_bytes)) {
    return error;
  }
  *blocks = processors * blocks_per_processor;
  return cudaSuccess;
}

// Loads, stores and additions that order memory for the whole GPU. T is an integer of 4 or 8 bytes.
template <class T>
__device__ __forceinline__ T load_acquire(const T* address) {
  static_assert(std::is_integral<T>::value && (sizeof(T) == 4 || sizeof(T) == 8),
                "4- or 8-byte integers only");
  if constexpr (sizeof(T) == 4) {
    uint32_t value;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
    return static_cast<T>(value);
  } else {
    uint64_t value;
    asm volatile("ld.acquire.gpu.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
    return static_cast<T>(value);
  }
}

template <class T>
__device__ __forceinline__ void store_release(T* address, T value) {
  static_assert(std::is_integral<T>::value && (sizeof(T) == 4 || sizeof(T) == 8),
                "4- or 8-byte integers only");
  if constexpr (sizeof(T) == 4) {
    asm volatile("st.release.gpu.u32 [%0], %1;" ::"l"(address), "r"(static_cast<uint32_t>(value)) : "memory");
  } else {
    asm volatile("st.release.gpu.u64 [%0], %1;" ::"l"(address), "l"(static_cast<uint64_t>(value)) : "memory");
  }
}

// Returns the value before the addition.
template <class T>
__device__ __forceinline__ T atomic_add_acq_rel(T* address, T value) {
  static_assert(std::is_integral<T>::value && (sizeof(T) == 4 || sizeof(T) == 8),
                "4- or 8-byte integers only");
  if constexpr (sizeof(T) == 4) {
    uint32_t old;
    asm volatile("atom.acq_rel.gpu.add.u32 %0, [%1], %2;"
                 : "=r"(old)
                 : "l"(address), "r"(static_cast<uint32_t>(value))
                 : "memory");
    return static_cast<T>(old);
  } else {
    uint64_t old;
    asm volatile("atom.acq_rel.gpu.add.u64 %0, [%1], %2;"
                 : "=l"(old)
                 : "l"(address), "l"(static_cast<uint64_t>(value))
                 : "memory");
    return static_cast<T>(old);
  }
}

// A read of what other blocks of the launch may be writing, where seeing it late does no harm. Unlike
// load_acquire it leaves the first-level cache alone.
__device__ __forceinline__ uint32_t load_relaxed(const uint32_t* address) {
  uint32_t value;
  asm volatile("ld.relaxed.gpu.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}

// Polls *address (load_acquire) until done(value) and returns that value. Write no polling loop of your own:
// the emulator lets other blocks run only from here.
template <class T, class Predicate>
__device__ __forceinline__ T spin_wait(const T* address, Predicate done) {
  T value = load_acquire(address);
  while (!done(value)) {
    __nanosleep(64);
    value = load_acquire(address);
  }
  return value;
}

// Four 8x8 matrices of 16-bit elements from shared memory; lane l passes the 16-byte aligned row l % 8 of
// matrix l / 8.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&fragments)[4], const void* row) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragments[0]), "=r"(fragments[1]), "=r"(fragments[2]), "=r"(fragments[3])
               : "r"(address)
               : "memory");
}

// Two 8x8 matrices, transposed; lanes 0 to 15 pass the rows.
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&fragments)[2], const void* row) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(fragments[0]), "=r"(fragments[1])
               : "r"(address)
               : "memory");
}

// d (16x8, fp32) += a (16x16, fp16, row-major) * b (16x8, fp16, column-major), in PTX's layout of m16n8k16.
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  // sm_75 has only half the depth; the fragments of k16 are those of two k8 side by side.
  for (int k8 = 0; k8 < 2; ++k8) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2 * k8]), "r"(a[2 * k8 + 1]), "r"(b[k8]));
  }
#endif
}

// The same of bf16, which processors before sm_80 lack.
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Copies 16 bytes from global to shared memory, or writes 16 zero bytes and reads nothing where `in_range` is
// false. Complete after commit and a wait that covers its group; for other threads, after a barrier as well.
__device__ __forceinline__ void cp_async16(void* shared, const void* global, bool in_range) {
#if __CUDA_ARCH__ >= 800
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global),
               "r"(in_range ? 16 : 0)
               : "memory");
#else
  *static_cast<uint4*>(shared) = in_range ? *static_cast<const uint4*>(global) : uint4{0, 0, 0, 0};
#endif
}

__device__ __forceinline__ void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most `kGroupsLeft` of this thread's committed groups are unfinished.
template <int kGroupsLeft>
__device__ __forceinline__ void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
#endif
}

}  // namespace gcv

#endif

namespace gcv {

// All blocks of a cooperative launch (grid on x) wait for each other; may be called repeatedly. `arrivals` is
// in global memory and is zero before the launch.
__device__ __forceinline__ void grid_barrier(unsigned* arrivals) {
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) {
    const unsigned arrived_before = atomic_add_acq_rel(arrivals, 1u);
    const unsigned target = (arrived_before / gridDim.x + 1) * gridDim.x;
    spin_wait(arrivals, [target](unsigned arrived) { return arrived >= target; });
  }
  __syncthreads();
}

}  // namespace gcv
