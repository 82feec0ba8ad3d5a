// Gathers from a plane of pixels. Only position_sensitive_cpu.cpp includes this.
#pragma once

#include "common/simd.h"

namespace gcv {

// As many int32 as a vector of T has lanes.
template <class T>
struct OffsetsOf {
  typedef int32_t type __attribute__((vector_size(kLanes<T> * 4)));
};
template <class T>
using Offsets = typename OffsetsOf<T>::type;

template <class T>
GCV_HD Offsets<T> load_offsets(const int32_t* p) {
  Offsets<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// plane[row + column] of each lane, 0 where the sum is negative.
#if defined(__AVX512F__)

GCV_HD Simd<float> gather_present(const float* plane, Offsets<float> row, Offsets<float> column) {
  const Offsets<float> at = row + column;
  const __mmask16 present = __mmask16(~_mm512_movepi32_mask(reinterpret_cast<__m512i>(at)));
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), present, reinterpret_cast<__m512i>(at), plane, 4);
}

GCV_HD Simd<double> gather_present(const double* plane, Offsets<double> row, Offsets<double> column) {
  const Offsets<double> at = row + column;
  const __mmask8 present = __mmask8(~_mm256_movepi32_mask(reinterpret_cast<__m256i>(at)));
  return _mm512_mask_i32gather_pd(_mm512_setzero_pd(), present, reinterpret_cast<__m256i>(at), plane, 8);
}

#elif defined(__AVX2__)

GCV_HD Simd<float> gather_present(const float* plane, Offsets<float> row, Offsets<float> column) {
  const Offsets<float> at = row + column;
  const Offsets<float> present = at >= 0;
  return _mm256_mask_i32gather_ps(_mm256_setzero_ps(), plane, reinterpret_cast<__m256i>(at),
                                  reinterpret_cast<__m256>(present), 4);
}

GCV_HD Simd<double> gather_present(const double* plane, Offsets<double> row, Offsets<double> column) {
  const Offsets<double> at = row + column;
  const __m256i present = _mm256_cvtepi32_epi64(reinterpret_cast<__m128i>(at >= 0));
  return _mm256_mask_i32gather_pd(_mm256_setzero_pd(), plane, reinterpret_cast<__m128i>(at),
                                  reinterpret_cast<__m256d>(present), 8);
}

#else

template <class T>
GCV_HD Simd<T> gather_present(const T* plane, Offsets<T> row, Offsets<T> column) {
  T values[kLanes<T>];
  for (int lane = 0; lane < kLanes<T>; ++lane) {
    const int32_t at = row[lane] + column[lane];
    values[lane] = at < 0 ? T(0) : plane[at];
  }
  return load(values);
}

#endif

}  // namespace gcv
