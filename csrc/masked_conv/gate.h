// The activations of masked convolutions, and the gate's gradient. Free of torch.
#pragma once

#include <cmath>

#include "common/dtype.h"
#include "common/exp.h"
#include "common/isa.h"
#include "masked_conv/tap_conv.h"

namespace gcv {

// -1 to 0: e^(-2 |x|) - 1, of which tanh is made.
template <class T>
GCV_HD T shrunk(T x) {
  return exponential_minus_one(T(-2) * std::abs(x));
}

template <class T>
GCV_HD T tanh_of(T x) {
  const T s = shrunk(x);
  return std::copysign(s / (T(2) + s), x);
}

template <class T>
GCV_HD T elu_of(T x) {
  const T negative = exponential_minus_one(x < 0 ? x : T(0));
  return x > 0 ? x : x == x ? negative : x;
}

// tanh(a) sigmoid(b), by one division and exponentials that cannot overflow.
template <class T>
GCV_HD T gate(T a, T b) {
  const T s = shrunk(a), e = exponential_of_negative(-std::abs(b));
  return std::copysign(s * (b < 0 ? e : T(1)) / ((T(2) + s) * (T(1) + e)), a);
}

// Of both of the gate's halves, for the gradient of what comes out.
template <class T>
GCV_HD void gate_backward(T grad, T a, T b, T& grad_a, T& grad_b) {
  const T s = shrunk(a), e = exponential_of_negative(-std::abs(b));
  const T inverse = T(1) / ((T(2) + s) * (T(1) + e));
  const T t = std::copysign(s * (T(1) + e) * inverse, a);
  const T smaller = e * (T(2) + s) * inverse, larger = (T(2) + s) * inverse;  // sigmoid of -|b| and |b|
  const T sigmoid = b < 0 ? smaller : larger, rest = b < 0 ? larger : smaller;
  grad_a = grad * sigmoid * (T(1) - t) * (T(1) + t);
  grad_b = grad * t * sigmoid * rest;
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
