// Element types in CUDA kernels: what they compute in, how results narrow, and the choice of an instance by
// dtype. Included by *_cuda.cu only.
#pragma once

#include "common/cuda.h"
#include "common/dtype.h"

namespace gcv {

constexpr unsigned kFullWarp = 0xffffffffu;

template <class Integer>
GCV_HD constexpr Integer ceil_div(Integer a, Integer b) {
  return (a + b - 1) / b;
}

// Round to nearest even.
template <class Element>
__device__ __forceinline__ Element narrow(ComputeOf<Element> x) {
  if constexpr (std::is_same<Element, Half>::value) {
    return Half{__half_as_ushort(__float2half_rn(x))};
  } else if constexpr (std::is_same<Element, BFloat16>::value) {
    return BFloat16{__bfloat16_as_ushort(__float2bfloat16_rn(x))};
  } else {
    return x;
  }
}

// Calls f with a value of the element type that `dtype` names.
template <class F>
inline cudaError_t with_element(DType dtype, F f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::f16:
      return f(Half{});
    case DType::bf16:
      return f(BFloat16{});
  }
  return cudaErrorInvalidValue;
}

}  // namespace gcv
