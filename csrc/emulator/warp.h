// Warp-wide intrinsics: shuffles, votes and __syncwarp.
#pragma once

#include <type_traits>

#include "emulator/engine.h"

namespace gcv::emulator {

constexpr unsigned kFullMask = 0xffffffffu;

template <class T>
inline T lane_value(const LaneValues& values, unsigned lane) {
  T value;
  read_lane(values, lane, &value, sizeof value);
  return value;
}

template <class T>
inline T shuffle(unsigned mask, T value, unsigned source, const Site& site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kMaxLaneBytes);
  const LaneValues& values = sync_warp(mask, &value, sizeof value, site);
  if (!(mask >> source & 1)) {
    fail("%s reads lane %u, which is not in the mask 0x%08x (%s:%d)", site.operation, source, mask, site.file,
         site.line);
  }
  return lane_value<T>(values, source);
}

inline unsigned first_lane_of_segment(unsigned width) { return here->lane & ~(width - 1); }

}  // namespace gcv::emulator

inline void __syncwarp(unsigned mask = ::gcv::emulator::kFullMask,
                       const ::gcv::emulator::Site& site = ::gcv::emulator::Site::here("__syncwarp")) {
  ::gcv::emulator::sync_warp(mask, nullptr, 0, site);
}

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32,
                     const ::gcv::emulator::Site& site = ::gcv::emulator::Site::here("__shfl_sync")) {
  const unsigned segment = ::gcv::emulator::first_lane_of_segment(width);
  return ::gcv::emulator::shuffle(mask, value, segment + (unsigned(source) & (unsigned(width) - 1)), site);
}

template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                        const ::gcv::emulator::Site& site = ::gcv::emulator::Site::here("__shfl_up_sync")) {
  const unsigned lane = ::gcv::emulator::here->lane;
  const unsigned position = lane - ::gcv::emulator::first_lane_of_segment(width);
  return ::gcv::emulator::shuffle(mask, value, position < delta ? lane : lane - delta, site);
}

template <class T>
inline T __shfl_down_sync(
    unsigned mask, T value, unsigned delta, int width = 32,
    const ::gcv::emulator::Site& site = ::gcv::emulator::Site::here("__shfl_down_sync")) {
  const unsigned lane = ::gcv::emulator::here->lane;
  const unsigned position = lane - ::gcv::emulator::first_lane_of_segment(width);
  return ::gcv::emulator::shuffle(mask, value, position + delta < unsigned(width) ? lane + delta : lane,
                                  site);
}

// Reaches into earlier segments but not into later ones, as the hardware does.
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                         const ::gcv::emulator::Site& site = ::gcv::emulator::Site::here("__shfl_xor_sync")) {
  const unsigned lane = ::gcv::emulator::here->lane;
  const unsigned source = lane ^ (unsigned(lane_mask) & 31);
  const unsigned segment_end = ::gcv::emulator::first_lane_of_segment(width) + unsigned(width);
  return ::gcv::emulator::shuffle(mask, value, source < segment_end ? source : lane, site);
}

inline unsigned __ballot_sync(
    unsigned mask, int predicate,
    const ::gcv::emulator::Site& site = ::gcv::emulator::Site::here("__ballot_sync")) {
  return ::gcv::emulator::ballot(mask, predicate != 0, site);
}

inline int __any_sync(unsigned mask, int predicate,
                      const ::gcv::emulator::Site& site = ::gcv::emulator::Site::here("__any_sync")) {
  return ::gcv::emulator::ballot(mask, predicate != 0, site) != 0;
}

inline int __all_sync(unsigned mask, int predicate,
                      const ::gcv::emulator::Site& site = ::gcv::emulator::Site::here("__all_sync")) {
  return ::gcv::emulator::ballot(mask, predicate != 0, site) == mask;
}
