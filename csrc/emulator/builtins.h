// CUDA's built-in variables, block barriers and arithmetic, for g++.
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>

#include "emulator/engine.h"

#define threadIdx (::gcv::emulator::here->thread)
#define blockIdx (::gcv::emulator::here->block)
#define blockDim (::gcv::emulator::block_dim)
#define gridDim (::gcv::emulator::grid_dim)

#define __launch_bounds__(...)

// g++ would take a plain __shared__ variable for a local one.
#undef __shared__
#define __shared__ USE_GCV_SHARED_INSTEAD_OF___shared__

constexpr int warpSize = 32;

inline void __syncthreads(const ::gcv::emulator::Site& site = ::gcv::emulator::Site::here("__syncthreads")) {
  ::gcv::emulator::sync_block(false, site);
}

inline int __syncthreads_count(
    int predicate, const ::gcv::emulator::Site& site = ::gcv::emulator::Site::here("__syncthreads_count")) {
  return static_cast<int>(::gcv::emulator::sync_block(predicate != 0, site));
}

inline int __syncthreads_or(
    int predicate, const ::gcv::emulator::Site& site = ::gcv::emulator::Site::here("__syncthreads_or")) {
  return ::gcv::emulator::sync_block(predicate != 0, site) != 0;
}

inline int __syncthreads_and(
    int predicate, const ::gcv::emulator::Site& site = ::gcv::emulator::Site::here("__syncthreads_and")) {
  return ::gcv::emulator::sync_block(predicate == 0, site) == 0;
}

inline void __threadfence() { ::gcv::emulator::thread_fence(); }

template <class T>
inline T __ldg(const T* address) {
  return *address;
}

// As CUDA's: of a number and a NaN the number, and mixed types widen.
template <class A, class B>
inline std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmin(T(a), T(b));
  return T(b) < T(a) ? T(b) : T(a);
}

template <class A, class B>
inline std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmax(T(a), T(b));
  return T(a) < T(b) ? T(b) : T(a);
}

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __ffsll(long long value) { return __builtin_ffsll(value); }
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value)); }
inline int __clzll(long long value) {
  return value == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(value));
}

// Rounded to nearest by the processor's default; -ffp-contract=off keeps the operations apart.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }

namespace gcv::emulator {

template <class To, class From>
inline To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace gcv::emulator

inline int __float_as_int(float value) { return ::gcv::emulator::same_bits<int>(value); }
inline unsigned __float_as_uint(float value) { return ::gcv::emulator::same_bits<unsigned>(value); }
inline float __int_as_float(int bits) { return ::gcv::emulator::same_bits<float>(bits); }
inline float __uint_as_float(unsigned bits) { return ::gcv::emulator::same_bits<float>(bits); }
inline long long __double_as_longlong(double value) { return ::gcv::emulator::same_bits<long long>(value); }
inline double __longlong_as_double(long long bits) { return ::gcv::emulator::same_bits<double>(bits); }
