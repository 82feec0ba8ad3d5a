// y = scale[c] * tanh(x) over [N, C, H, W]: the smallest room with every face. Free of torch.
#pragma once

#include <math.h>

#include <cstdint>

#include "common/dtype.h"
#include "common/isa.h"

namespace gcv {

struct Strides4 {
  int64_t n, c, h, w;  // in elements
};

struct Sizes4 {
  int64_t n, c, h, w;
};

struct ScaledTanhParams {
  const void* x;
  Strides4 x_strides;
  const void* scale;  // [C], of x's dtype
  int64_t scale_stride;
  void* y;
  Strides4 y_strides;
  Sizes4 size;
  DType dtype;
};

struct ScaledTanhBackwardParams {
  const void* grad;  // of y
  Strides4 grad_strides;
  const void* x;
  Strides4 x_strides;
  const void* scale;
  int64_t scale_stride;
  void* grad_x;
  Strides4 grad_x_strides;
  void* grad_scale;  // [C]
  Sizes4 size;
  DType dtype;
};

GCV_HD float tanh_of(float x) { return tanhf(x); }
GCV_HD double tanh_of(double x) { return tanh(x); }

GCV_HD int64_t offset(const Strides4& s, int64_t n, int64_t c, int64_t h, int64_t w) {
  return n * s.n + c * s.c + h * s.h + w * s.w;
}

template <class T>
GCV_HD T scaled_tanh(T x, T scale) {
  return scale * tanh_of(x);
}

template <class T>
struct ScaledTanhGrads {
  T x, scale;
};

template <class T>
GCV_HD ScaledTanhGrads<T> scaled_tanh_grads(T grad, T x, T scale) {
  const T t = tanh_of(x);
  return {grad * scale * (T(1) - t * t), grad * t};
}

// For channels [begin, end): every output belongs to one channel, so any split gives the same bits.
GCV_PER_ISA(void, scaled_tanh_cpu, (const ScaledTanhParams& p, int64_t begin, int64_t end), (p, begin, end))
GCV_PER_ISA(void, scaled_tanh_backward_cpu, (const ScaledTanhBackwardParams& p, int64_t begin, int64_t end),
            (p, begin, end))

}  // namespace gcv
