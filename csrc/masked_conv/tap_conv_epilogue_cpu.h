// What happens to the sums of a panel before they are written. Only *_cpu.cpp files of the room include this.
#pragma once

#include "common/dtype.h"
#include "common/exp.h"
#include "masked_conv/gate.h"
#include "masked_conv/tap_conv.h"
#include "masked_conv/tap_conv_panels_cpu.h"

namespace gcv::GCV_ISA {
namespace {

template <class T>
void relu(T* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = x[i] < 0 ? T(0) : x[i];  // NaN stays
}

template <class T>
void elu(T* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = elu_of(x[i]);
}

template <class T>
void negate(const T* x, int64_t count, T* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = -x[i];
}

template <class T>
void gate_all(T* a, const T* b, int64_t count) {
  for (int64_t i = 0; i < count; ++i) a[i] = gate(a[i], b[i]);
}

struct PixelRun {
  int64_t image, y, x, count;
};

// Adds what belongs to the channel, and to the pixel.
template <class Path>
void add_biases(const TapConvParams& p, const Panel& panel, const PixelRun& at, typename Path::Sum* sums) {
  using Element = typename Path::Element;
  constexpr int64_t row = Path::kColumns;
  const int64_t channels = panel.last - panel.first;
  if (p.bias != nullptr) {
    typename Path::Sum bias[row] = {};
    widen_all(static_cast<const Element*>(p.bias) + panel.first, channels, bias);
    for (int64_t i = 0; i < at.count; ++i) {
      for (int64_t c = 0; c < row; ++c) sums[i * row + c] += bias[c];
    }
  }
  if (p.condition.data == nullptr) return;
  const int64_t (&strides)[4] = p.condition.strides;
  const auto* first = static_cast<const Element*>(p.condition.data) + at.image * strides[0];
  first += panel.first * strides[1] + at.y * strides[2] + at.x * strides[3];
  for (int64_t i = 0; i < at.count; ++i) {
    for (int64_t c = 0; c < channels; ++c) sums[i * row + c] += widen(first[c * strides[1] + i * strides[3]]);
  }
}

}  // namespace
}  // namespace gcv::GCV_ISA
