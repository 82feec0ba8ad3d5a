// Neighbouring elements to and from the type that is computed in. Only *_cpu.cpp files include this.
#pragma once

#include <string.h>

#include <type_traits>

#include "common/dtype.h"
#include "common/simd.h"

namespace gcv {

template <class Element, class T>
GCV_HD void widen_all(const Element* from, int64_t count, T* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = widen(from[i]);
}

template <class T, class Element>
GCV_HD void narrow_all(const T* from, int64_t count, Element* to) {
  for (int64_t i = 0; i < count; ++i) narrow(from[i], to[i]);
}

// A vector of elements.
template <class Element>
GCV_HD Simd<typename Compute<Element>::type> load_wide(const Element* p) {
  using T = typename Compute<Element>::type;
  T wide[kLanes<T>];
  widen_all(p, kLanes<T>, wide);
  return load(wide);
}

// Whether the processor converts vectors of them itself, which the compiler does not find out: of a loop over
// widen or narrow it makes vectors, of many more instructions.
template <class Element>
inline constexpr bool kConvertsVectors = false;

#ifdef __F16C__

template <>
inline constexpr bool kConvertsVectors<Half> = true;

#ifdef __AVX512F__
inline constexpr __mmask16 kAllLanes = 0xffff;  // without a mask GCC 12 warns of its own header
#endif

GCV_HD Simd<float> load_wide(const Half* p) {
#ifdef __AVX512F__
  return _mm512_maskz_cvtph_ps(kAllLanes, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#else
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#endif
}

GCV_HD void store_narrow(Half* p, Simd<float> v) {
#ifdef __AVX512F__
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_maskz_cvtps_ph(kAllLanes, v, _MM_FROUND_TO_NEAREST_INT));
#else
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#endif
}

GCV_HD void widen_all(const Half* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + kLanes<float> <= count; i += kLanes<float>) store(to + i, load_wide(from + i));
  for (; i < count; ++i) to[i] = widen(from[i]);
}

GCV_HD void narrow_all(const float* from, int64_t count, Half* to) {
  int64_t i = 0;
  for (; i + kLanes<float> <= count; i += kLanes<float>) store_narrow(to + i, load(from + i));
  for (; i < count; ++i) narrow(from[i], to[i]);
}

#endif

// Of a fixed number of them the compiler makes no vectors.

typedef uint16_t BFloat16Lanes __attribute__((vector_size(kVectorBytes / 2)));

GCV_HD Simd<float> load_wide(const BFloat16* p) {
  BFloat16Lanes lanes;
  memcpy(&lanes, p, sizeof lanes);
  return reinterpret_cast<Simd<float>>(__builtin_convertvector(lanes, Simd<uint32_t>) << 16);
}

GCV_HD void store_narrow(BFloat16* p, Simd<float> v) {
  const auto bits = reinterpret_cast<Simd<uint32_t>>(v);
  const Simd<uint32_t> rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const auto lanes = __builtin_convertvector(v != v ? rounded * 0 + 0x7fc0 : rounded, BFloat16Lanes);
  memcpy(p, &lanes, sizeof lanes);
}

// Vectors of any element, as the type that is computed in.

template <class Element>
GCV_HD Simd<ComputeOf<Element>> load_lanes(const Element* p) {
  if constexpr (std::is_same<Element, ComputeOf<Element>>::value) {
    return load(p);
  } else {
    return load_wide(p);
  }
}

template <class Element>
GCV_HD void store_lanes(Element* p, Simd<ComputeOf<Element>> v) {
  using T = ComputeOf<Element>;
  if constexpr (std::is_same<Element, T>::value) {
    store(p, v);
  } else if constexpr (std::is_same<Element, BFloat16>::value || kConvertsVectors<Element>) {
    store_narrow(p, v);
  } else {
    T wide[kLanes<T>];
    store(wide, v);
    narrow_all(wide, kLanes<T>, p);
  }
}

}  // namespace gcv
