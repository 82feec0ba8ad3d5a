// The emulated spelling of csrc/common/cuda.h, which documents each name; included by it alone.
#pragma once

#include <cstring>
#include <tuple>

#include "emulator/engine.h"
#include "emulator/warp.h"

// A reference to a true array type, so that UBSan checks its bounds.
#define GCV_SHARED(T, name, ...)                                                                 \
  using name##_shared_type = T __VA_ARGS__;                                                      \
  static const ::gcv::emulator::SharedSlot name##_shared_slot{};                                 \
  name##_shared_type& name = *static_cast<name##_shared_type*>(::gcv::emulator::shared_variable( \
      name##_shared_slot, sizeof(name##_shared_type), alignof(name##_shared_type)))

namespace gcv {

template <class T>
inline T* dyn_shared() {
  return static_cast<T*>(emulator::dynamic_shared());
}

inline unsigned lane_id() { return emulator::here->lane; }

namespace emulator {

template <class... Params, class... Args>
inline cudaError_t launch(void (*kernel)(Params...), const LaunchConfig& config, bool cooperative,
                          Args&&... args) {
  struct Call {
    void (*kernel)(Params...);
    std::tuple<std::decay_t<Params>...> args;
  };
  const Call call{kernel, {static_cast<Params>(std::forward<Args>(args))...}};
  const auto thread_body = [](const void* arguments) {
    const Call& call = *static_cast<const Call*>(arguments);
    std::apply(call.kernel, call.args);
  };
  return run({config.grid, config.block, config.shared_bytes, cooperative}, thread_body, &call);
}

}  // namespace emulator

template <class... Params, class... Args>
inline cudaError_t launch(void (*kernel)(Params...), const LaunchConfig& config, Args&&... args) {
  return emulator::launch(kernel, config, false, std::forward<Args>(args)...);
}

template <class... Params, class... Args>
inline cudaError_t launch_cooperative(void (*kernel)(Params...), const LaunchConfig& config, Args&&... args) {
  return emulator::launch(kernel, config, true, std::forward<Args>(args)...);
}

template <class Kernel>
inline cudaError_t max_cooperative_blocks(Kernel, int /*block_threads*/, size_t /*shared_bytes*/,
                                          int* blocks) {
  *blocks = emulator::kMaxCooperativeBlocks;
  return cudaSuccess;
}

template <class T>
inline T load_acquire(const T* address) {
  static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "4- or 8-byte integers only");
  return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}

inline uint32_t load_relaxed(const uint32_t* address) { return __atomic_load_n(address, __ATOMIC_RELAXED); }

template <class T>
inline void store_release(T* address, T value) {
  static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "4- or 8-byte integers only");
  __atomic_store_n(address, value, __ATOMIC_RELEASE);
}

template <class T>
inline T atomic_add_acq_rel(T* address, T value) {
  static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "4- or 8-byte integers only");
  return __atomic_fetch_add(address, value, __ATOMIC_ACQ_REL);
}

template <class T, class Predicate>
inline T spin_wait(const T* address, Predicate done,
                   const emulator::Site& site = emulator::Site::here("spin_wait")) {
  T value = load_acquire(address);
  for (unsigned attempt = 0; !done(value); ++attempt) {
    emulator::yield_after_poll(attempt, site);
    value = load_acquire(address);
  }
  return value;
}

namespace emulator {

// Row `row` of 8x8 matrix `matrix`, as the lane that holds its address passed it.
inline const char* matrix_row(const LaneValues& values, unsigned matrix, unsigned row) {
  const char* address = lane_value<const char*>(values, 8 * matrix + row);
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0)
    fail("ldmatrix: the address of a row is not 16-byte aligned");
  return address;
}

inline unsigned short bits_of(uint32_t pair, unsigned index) {
  return static_cast<unsigned short>(index == 0 ? pair & 0xffff : pair >> 16);
}

inline float half_of(uint32_t pair, unsigned index) {
  return __half2float(__half(__half_raw{bits_of(pair, index)}));
}

inline float bf16_of(uint32_t pair, unsigned index) {
  return __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{bits_of(pair, index)}));
}

using ElementOf = float (*)(uint32_t pair, unsigned index);

struct MmaFragments {
  uint32_t a[4];
  uint32_t b[2];
};

// In the PTX layout, lane 4 * row + column / 2 holds two neighbours of an 8x8 quarter of `a`; the quarters
// lie in column-major order.
inline float mma_a(const LaneValues& values, ElementOf element_of, unsigned row, unsigned depth) {
  const auto fragments = lane_value<MmaFragments>(values, (row % 8) * 4 + (depth % 8) / 2);
  return element_of(fragments.a[row / 8 + 2 * (depth / 8)], depth % 2);
}

inline float mma_b(const LaneValues& values, ElementOf element_of, unsigned depth, unsigned column) {
  const auto fragments = lane_value<MmaFragments>(values, column * 4 + (depth % 8) / 2);
  return element_of(fragments.b[depth / 8], depth % 2);
}

inline void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], ElementOf element_of,
                const Site& site) {
  const MmaFragments fragments{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  const auto& values = sync_warp(kFullMask, &fragments, sizeof fragments, site);
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = lane_id() / 4 + 8 * (i / 2);
    const unsigned column = 2 * (lane_id() % 4) + i % 2;
    for (unsigned depth = 0; depth < 16; ++depth)
      d[i] += mma_a(values, element_of, row, depth) * mma_b(values, element_of, depth, column);
  }
}

}  // namespace emulator

inline void ldmatrix_x4(uint32_t (&fragments)[4], const void* row,
                        const emulator::Site& site = emulator::Site::here("ldmatrix_x4")) {
  const auto& rows = emulator::sync_warp(emulator::kFullMask, &row, sizeof row, site);
  const unsigned lane = lane_id();
  for (unsigned matrix = 0; matrix < 4; ++matrix) {
    std::memcpy(&fragments[matrix], emulator::matrix_row(rows, matrix, lane / 4) + 4 * (lane % 4), 4);
  }
}

inline void ldmatrix_x2_trans(uint32_t (&fragments)[2], const void* row,
                              const emulator::Site& site = emulator::Site::here("ldmatrix_x2_trans")) {
  const auto& rows = emulator::sync_warp(emulator::kFullMask, &row, sizeof row, site);
  const unsigned lane = lane_id();
  for (unsigned matrix = 0; matrix < 2; ++matrix) {
    uint16_t pair[2];
    for (unsigned i = 0; i < 2; ++i) {
      std::memcpy(&pair[i], emulator::matrix_row(rows, matrix, 2 * (lane % 4) + i) + 2 * (lane / 4), 2);
    }
    fragments[matrix] = pair[0] | uint32_t{pair[1]} << 16;
  }
}

inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                         const emulator::Site& site = emulator::Site::here("mma_m16n8k16")) {
  emulator::mma(d, a, b, emulator::half_of, site);
}

inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                              const emulator::Site& site = emulator::Site::here("mma_m16n8k16_bf16")) {
  emulator::mma(d, a, b, emulator::bf16_of, site);
}

inline void cp_async16(void* shared, const void* global, bool in_range) {
  emulator::async_copy16(shared, global, in_range);
}

inline void cp_async_commit() { emulator::async_copy_commit(); }

template <int kGroupsLeft>
inline void cp_async_wait() {
  emulator::async_copy_wait(kGroupsLeft);
}

}  // namespace gcv
