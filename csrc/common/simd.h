// SIMD vectors by the compiler's vector extensions, as wide as the instruction set of this object file.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/hd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace gcv {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

inline constexpr int kLine = 64;  // bytes that a cache fetches

template <class T>
struct SimdOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Simd = typename SimdOf<T>::type;

template <class T>
inline constexpr int kLanes = kVectorBytes / int(sizeof(T));

template <class T>
GCV_HD Simd<T> load(const T* p) {
  Simd<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
GCV_HD void store(T* p, Simd<T> v) {
  std::memcpy(p, &v, sizeof v);
}

template <class T>
GCV_HD Simd<T> splat(T x) {
  return x - Simd<T>{};
}

// a * b + c, rounded once where the processor has that.
template <class T>
GCV_HD Simd<T> multiply_add(Simd<T> a, Simd<T> b, Simd<T> c) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    return _mm512_fmadd_ps(a, b, c);
  } else {
    return _mm512_fmadd_pd(a, b, c);
  }
#elif defined(__FMA__)
  if constexpr (sizeof(T) == 4) {
    return _mm256_fmadd_ps(a, b, c);
  } else {
    return _mm256_fmadd_pd(a, b, c);
  }
#else
  return a * b + c;
#endif
}

// One bit per lane of a comparison's result.
GCV_HD uint32_t lane_bits(Simd<int32_t> mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask));
#elif defined(__AVX2__)
  return uint32_t(_mm256_movemask_ps(reinterpret_cast<__m256>(mask)));
#elif defined(__x86_64__)
  return uint32_t(_mm_movemask_ps(reinterpret_cast<__m128>(mask)));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kLanes<int32_t>; ++i) bits |= uint32_t(mask[i] & 1) << i;
  return bits;
#endif
}

GCV_HD uint32_t lane_bits(Simd<int64_t> mask) {
#if defined(__AVX512F__)
  return _mm512_movepi64_mask(reinterpret_cast<__m512i>(mask));
#elif defined(__AVX2__)
  return uint32_t(_mm256_movemask_pd(reinterpret_cast<__m256d>(mask)));
#elif defined(__x86_64__)
  return uint32_t(_mm_movemask_pd(reinterpret_cast<__m128d>(mask)));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kLanes<int64_t>; ++i) bits |= uint32_t(mask[i] & 1) << i;
  return bits;
#endif
}

template <class Mask>
GCV_HD bool any(Mask mask) {
  return lane_bits(mask) != 0;
}

}  // namespace gcv
