// The activations of masked convolutions, and the gate's gradient. Free of torch.
#pragma once

#include "common/dtype.h"
#include "common/exp.h"
#include "common/isa.h"
#include "masked_conv/tap_conv.h"

namespace gcv {

template <class T>
GCV_HD T tanh_of(T x) {
  const T shrunk = exponential_minus_one(x < 0 ? 2 * x : -2 * x);
  const T size = -shrunk / (T(2) + shrunk);
  return x < 0 ? -size : size;
}

template <class T>
GCV_HD T elu_of(T x) {
  const T negative = exponential_minus_one(x < 0 ? x : T(0));
  return x > 0 ? x : x == x ? negative : x;
}

// tanh(a) sigmoid(b), by one division.
template <class T>
GCV_HD T gate(T a, T b) {
  const T shrunk = exponential_minus_one(a < 0 ? 2 * a : -2 * a);
  const T size = -shrunk / ((T(2) + shrunk) * (T(1) + exponential(-b)));
  return a < 0 ? -size : size;
}

// Of both of the gate's halves, for the gradient of what comes out.
template <class T>
GCV_HD void gate_backward(T grad, T a, T b, T& grad_a, T& grad_b) {
  const T t = tanh_of(a), s = sigmoid(b);
  grad_a = grad * s * (T(1) - t) * (T(1) + t);
  grad_b = grad * t * s * (T(1) - s);
}

// output = tanh(first half of the channels) * sigmoid(second half), of `sums` plus, if it has data,
// `condition`, whose strides may be 0. Backward writes grad_sums, of as many channels as sums.
struct GateParams {
  int64_t images, channels, height, width;  // of the output
  ConvMaps sums, condition, output;
  ConvMaps grad, grad_sums;  // backward alone
  DType dtype;
};

GCV_PER_ISA(int64_t, gate_items_cpu, (const GateParams& p), (p))
GCV_PER_ISA(void, gate_cpu, (const GateParams& p, int64_t begin, int64_t end), (p, begin, end))
GCV_PER_ISA(void, gate_backward_cpu, (const GateParams& p, int64_t begin, int64_t end), (p, begin, end))

}  // namespace gcv
