// One pixel of a mixture's maps in a CUDA kernel: its numbers, and levels drawn for it. Included by *_cuda.cu
// only.
#pragma once

#include "common/elements_cuda.h"
#include "mixture/mixture.h"

namespace gcv {

struct MixturePixel {
  int64_t image, row, column;
};

__device__ __forceinline__ int64_t mixture_offset(const int64_t (&strides)[4], const MixturePixel& pixel,
                                                  int64_t channel) {
  return pixel.image * strides[0] + channel * strides[1] + pixel.row * strides[2] + pixel.column * strides[3];
}

template <class Element>
__device__ __forceinline__ ComputeOf<Element> mixture_read(const MixtureArray& a, const MixturePixel& pixel,
                                                           int64_t channel) {
  return widen(static_cast<const Element*>(a.data)[mixture_offset(a.strides, pixel, channel)]);
}

template <class Element>
__device__ __forceinline__ int64_t mixture_component(const MixtureSampleParams& p, const MixturePixel& pixel,
                                                     float uniform) {
  using T = ComputeOf<Element>;
  const MixtureArray& params = p.maps.params;
  const T temperature = T(p.temperature);
  T most = mixture_read<Element>(params, pixel, 0);
  for (int64_t k = 1; k < p.maps.mixtures; ++k) {
    const T logit = mixture_read<Element>(params, pixel, k);
    most = logit > most ? logit : most;
  }
  T total = T(0), sum = T(0);
  for (int64_t k = 0; k < p.maps.mixtures; ++k)
    total = exact::add(total, mixture_weight(mixture_read<Element>(params, pixel, k), most, temperature));
  const T target = exact::mul(T(uniform), total);
  int64_t chosen = 0;
  for (int64_t k = 0; k + 1 < p.maps.mixtures; ++k) {
    sum = exact::add(sum, mixture_weight(mixture_read<Element>(params, pixel, k), most, temperature));
    chosen += sum <= target ? 1 : 0;
  }
  return chosen;
}

// Draws the pixel's levels, in each of its colours given those before.
template <class Element>
__device__ __forceinline__ void mixture_draw(const MixtureSampleParams& p, const MixturePixel& pixel) {
  using T = ComputeOf<Element>;
  const MixtureMaps& m = p.maps;
  const int64_t at = pixel.row * m.width + pixel.column;
  const PhiloxWords words = pixel_noise(p.seed, pixel.image, at, 0);
  const auto noise = [&](int i) {
    return p.noise.data ? mixture_read<float>(p.noise, pixel, i) : uniform_of(words.word[i]);
  };
  const int64_t k = mixture_component<Element>(p, pixel, noise(0));
  const auto number = [&](int64_t block) {
    return mixture_read<Element>(m.params, pixel, block * m.mixtures + k);
  };
  T value[3] = {};
  const auto conditioned = [&](T mean, int coefficient, int on) {
    T slope;
    const T tangent = mixture_tanh(number(mixture_block(m, coefficient, kCoefficient)), slope);
    return exact::add(mean, exact::mul(tangent, value[on]));
  };
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    if (c >= m.colours) break;
    T mean = number(mixture_block(m, c, kMean));
    if (c == 1) mean = conditioned(mean, 0, 0);
    if (c == 2) mean = conditioned(conditioned(mean, 1, 0), 2, 1);
    const T level =
        mixture_drawn(mean, number(mixture_block(m, c, kLogScale)), T(p.temperature), noise(1 + c));
    value[c] = mixture_value(level);
    p.levels[(pixel.image * m.colours + c) * mixture_pixels(m) + at] = uint8_t(int32_t(level));
  }
}

}  // namespace gcv
