// Crops of up to sixteen columns, taken from up to sixteen pixels of a row, pass their gradient on in
// registers. Only crop_backward_cpu.cpp includes this.
#pragma once

#include "roi/crop_columns.h"

#ifdef __AVX512F__

namespace gcv {
namespace {

// The t-th column that each pixel of the span passed its value to, and the weight it had there. Scattering so
// is a few permutations, where adding column by column would wait for the sum of the one before.
class NarrowScatter {
 public:
  static bool serves(const Columns<float>& c) { return c.channels == 1 && c.count <= 16 && c.span <= 16; }

  void prepare(const Columns<float>& c) {
    int counts[16] = {};
    terms_ = 0;
    for (__mmask16& mask : masks_) mask = 0;
    columns_ = 0;
    for (int64_t x = c.begin; x < c.end; ++x) {
      const CropSample<float> s = c.samples[x];
      if (!s.inside) continue;
      columns_ |= __mmask16(1u << x);
      add(int(s.low - c.first), int(x), 1 - s.weight, counts);
      if (s.high != s.low) add(int(s.high - c.first), int(x), s.weight, counts);
    }
    pixels_ = __mmask16((1u << c.span) - 1);
  }

  Simd<float> load_columns(const float* row) const { return _mm512_maskz_loadu_ps(columns_, row); }

  // To the pixels of the span.
  void add_to(float* pixels, Simd<float> columns) const {
    Simd<float> sum = _mm512_maskz_loadu_ps(pixels_, pixels);
    for (int t = 0; t < terms_; ++t) {
      const Simd<float> term = _mm512_maskz_permutexvar_ps(0xffff, _mm512_load_si512(lanes_[t]), columns);
      sum = _mm512_mask_add_ps(sum, masks_[t], sum, term * load(weights_[t]));
    }
    _mm512_mask_storeu_ps(pixels, pixels_, sum);
  }

 private:
  void add(int pixel, int column, float weight, int* counts) {
    const int t = counts[pixel]++;
    lanes_[t][pixel] = column;
    weights_[t][pixel] = weight;
    masks_[t] |= __mmask16(1u << pixel);
    terms_ = t + 1 > terms_ ? t + 1 : terms_;
  }

  int terms_ = 0;
  __mmask16 columns_ = 0, pixels_ = 0;
  __mmask16 masks_[16];
  alignas(64) int32_t lanes_[16][16] = {};
  alignas(64) float weights_[16][16] = {};
};

// Calls pass_on(y, sum) with the sums of the rows of a plane that row y of the image was sampled for.
template <class PassOn>
void sum_narrow_rows(const NarrowScatter& scatter, const CropSample<float>* rows, int64_t height,
                     int64_t width, const float* grad, const PassOn& pass_on) {
  Simd<float> of_low{}, of_high{};
  int64_t low = -1, high = -1;
  for (int64_t i = 0; i < height; ++i, grad += width) {
    const CropSample<float> y = rows[i];
    if (!y.inside) continue;
    if (low >= 0 && low != y.low && low != y.high) pass_on(low, of_low);
    if (high >= 0 && high != y.low && high != y.high) pass_on(high, of_high);
    const auto held = [&](int64_t at) { return at == low ? of_low : at == high ? of_high : Simd<float>{}; };
    const Simd<float> first = held(y.low), second = held(y.high), row = scatter.load_columns(grad);
    of_low = first + row * splat(1 - y.weight);
    low = y.low;
    high = y.high == y.low ? -1 : y.high;
    if (high >= 0) of_high = second + row * splat(y.weight);
  }
  if (low >= 0) pass_on(low, of_low);
  if (high >= 0) pass_on(high, of_high);
}

}  // namespace
}  // namespace gcv

#endif
