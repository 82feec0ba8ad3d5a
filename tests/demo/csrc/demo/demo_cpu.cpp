#include "demo/demo.h"

namespace gcv::GCV_ISA {
namespace {

template <class Element>
void forward(const ScaledTanhParams& p, int64_t begin, int64_t end) {
  const auto* x = static_cast<const Element*>(p.x);
  auto* y = static_cast<Element*>(p.y);
  for (int64_t c = begin; c < end; ++c) {
    const auto scale = widen(static_cast<const Element*>(p.scale)[c * p.scale_stride]);
    for (int64_t n = 0; n < p.size.n; ++n)
      for (int64_t h = 0; h < p.size.h; ++h)
        for (int64_t w = 0; w < p.size.w; ++w)
          narrow(scaled_tanh(widen(x[offset(p.x_strides, n, c, h, w)]), scale),
                 y[offset(p.y_strides, n, c, h, w)]);
  }
}

template <class Element>
void backward(const ScaledTanhBackwardParams& p, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const auto* grad = static_cast<const Element*>(p.grad);
  const auto* x = static_cast<const Element*>(p.x);
  auto* grad_x = static_cast<Element*>(p.grad_x);
  for (int64_t c = begin; c < end; ++c) {
    const T scale = widen(static_cast<const Element*>(p.scale)[c * p.scale_stride]);
    T sum = 0;
    for (int64_t n = 0; n < p.size.n; ++n) {
      for (int64_t h = 0; h < p.size.h; ++h) {
        T row_sum = 0;
        for (int64_t w = 0; w < p.size.w; ++w) {
          const auto grads = scaled_tanh_grads<T>(widen(grad[offset(p.grad_strides, n, c, h, w)]),
                                                  widen(x[offset(p.x_strides, n, c, h, w)]), scale);
          narrow(grads.x, grad_x[offset(p.grad_x_strides, n, c, h, w)]);
          row_sum += grads.scale;
        }
        sum += row_sum;
      }
    }
    narrow(sum, static_cast<Element*>(p.grad_scale)[c]);
  }
}

}  // namespace

void scaled_tanh_cpu(const ScaledTanhParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, forward, p, begin, end);
}

void scaled_tanh_backward_cpu(const ScaledTanhBackwardParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, backward, p, begin, end);
}

}  // namespace gcv::GCV_ISA
