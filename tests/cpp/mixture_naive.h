// The mixture's loss, gradient and samples pixel by pixel in long double, and exactly sized cases for the
// test programs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "mixture/mixture.h"

namespace gcv {

struct MixtureCase {
  int64_t batch, colours, mixtures, height, width;
  bool holds_levels;
};

inline std::vector<MixtureCase> mixture_cases() {
  return {{1, 1, 1, 1, 1, true},   {2, 3, 3, 3, 5, true},  {2, 3, 2, 4, 4, false}, {1, 1, 5, 5, 13, false},
          {1, 3, 10, 1, 64, true}, {3, 1, 2, 9, 15, true}, {0, 3, 2, 2, 2, true},  {2, 3, 1, 0, 4, true}};
}

template <class T>
constexpr DType kMixtureType = sizeof(T) == 8 ? DType::f64 : DType::f32;

inline int64_t mixture_block_count(const MixtureCase& c) { return c.colours == 3 ? 10 : 3; }
inline int64_t mixture_plane(const MixtureCase& c) { return c.height * c.width; }

template <class T>
struct MixtureArrays {
  explicit MixtureArrays(const MixtureCase& c)
      : params(c.batch * mixture_block_count(c) * c.mixtures * mixture_plane(c)),
        values(c.holds_levels ? 0 : c.batch * c.colours * mixture_plane(c)),
        levels(c.batch * c.colours * mixture_plane(c)),
        noise(c.batch * (1 + c.colours) * mixture_plane(c)),
        grad(c.batch * mixture_plane(c)) {
    for (size_t i = 0; i < params.size(); ++i) params[i] = T(1.5 * std::cos(1.7 * double(i)));
    for (size_t i = 0; i < levels.size(); ++i)
      levels[i] = uint8_t(i % 5 == 0 ? 0 : i % 7 == 0 ? 255 : 37 * i % 256);
    for (size_t i = 0; i < values.size(); ++i) values[i] = T(levels[i] / 127.5 - 1);
    for (size_t i = 0; i < noise.size(); ++i) noise[i] = uniform_of(uint32_t(2654435761u * (i + 1)));
    for (size_t i = 0; i < grad.size(); ++i) grad[i] = T(std::sin(0.7 * double(i) + 1));
  }
  std::vector<T> params, values;
  std::vector<uint8_t> levels;
  std::vector<float> noise;
  std::vector<T> grad;
};

inline MixtureArray mixture_array(const void* data, const MixtureCase& c, int64_t channels) {
  return {data, {channels * mixture_plane(c), mixture_plane(c), c.width, 1}};
}

template <class T>
MixtureMaps mixture_maps(const MixtureCase& c, const MixtureArrays<T>& a) {
  return {mixture_array(a.params.data(), c, mixture_block_count(c) * c.mixtures),
          c.batch,
          c.height,
          c.width,
          c.mixtures,
          c.colours,
          kMixtureType<T>};
}

template <class T>
MixtureNllParams mixture_nll_params(const MixtureCase& c, const MixtureArrays<T>& a, std::vector<T>& nll) {
  const void* x = c.holds_levels ? static_cast<const void*>(a.levels.data()) : a.values.data();
  return {mixture_maps(c, a), mixture_array(x, c, c.colours), c.holds_levels, nll.data()};
}

template <class T>
MixtureNllBackwardParams mixture_backward_params(const MixtureCase& c, const MixtureArrays<T>& a,
                                                 std::vector<T>& nll, std::vector<T>& grad_params) {
  MixtureNllBackwardParams p{};
  p.forward = mixture_nll_params(c, a, nll);
  p.grad = mixture_array(a.grad.data(), c, 1);
  p.grad_params = grad_params.data();
  std::copy_n(p.forward.maps.params.strides, 4, p.grad_params_strides);
  return p;
}

template <class T>
MixtureSampleParams mixture_sample_params(const MixtureCase& c, const MixtureArrays<T>& a, double temperature,
                                          std::vector<uint8_t>& levels) {
  return {mixture_maps(c, a), mixture_array(a.noise.data(), c, 1 + c.colours), 0, temperature, levels.data()};
}

// One pixel: number `block` of component k.
class NaivePixel {
 public:
  template <class T>
  NaivePixel(const MixtureCase& c, const MixtureArrays<T>& a, int64_t image, int64_t at) : c_(c) {
    const int64_t count = mixture_block_count(c) * c.mixtures;
    for (int64_t i = 0; i < count; ++i)
      numbers.push_back(a.params[(image * count + i) * mixture_plane(c) + at]);
    for (int64_t i = 0; i < c.colours; ++i)
      level[i] = a.levels[(image * c.colours + i) * mixture_plane(c) + at];
  }

  long double number(int64_t block, int64_t k) const { return numbers[size_t(block * c_.mixtures + k)]; }

  long double mean(int64_t colour, int64_t k, const long double* value) const {
    const auto slope = [&](int64_t coefficient) { return std::tanh(number(3 + 3 * coefficient, k)); };
    const long double own = number(1 + per_colour() * colour, k);
    if (colour == 1) return own + slope(0) * value[0];
    return colour == 2 ? own + slope(1) * value[0] + slope(2) * value[1] : own;
  }

  long double log_scale(int64_t colour, int64_t k) const {
    return std::max(number(2 + per_colour() * colour, k), (long double)(kMixtureLeastLogScale));
  }

  // Minus the logarithm of the pixel's probability.
  long double nll() const {
    long double all = 0, joint = 0, value[3];
    for (int64_t i = 0; i < c_.colours; ++i) value[i] = level[i] * 2 / 255.0L - 1;
    for (int64_t k = 0; k < c_.mixtures; ++k) {
      long double term = std::exp(number(0, k));
      all += term;
      for (int64_t i = 0; i < c_.colours; ++i) {
        const long double centre = value[i] - mean(i, k, value), inverse = std::exp(-log_scale(i, k));
        const long double above = level[i] == 255 ? 1 : sigmoid((centre + 1 / 255.0L) * inverse);
        const long double below = level[i] == 0 ? 0 : sigmoid((centre - 1 / 255.0L) * inverse);
        // The same difference, of the complements where both are near 1.
        const long double upper = level[i] == 255 ? 0 : sigmoid(-(centre + 1 / 255.0L) * inverse);
        const long double lower = level[i] == 0 ? 1 : sigmoid(-(centre - 1 / 255.0L) * inverse);
        term *= centre > 0 ? lower - upper : above - below;
      }
      joint += term;
    }
    return std::log(all) - std::log(joint);
  }

  std::vector<long double> numbers;
  int level[3] = {};

 private:
  static long double sigmoid(long double x) { return 1 / (1 + std::exp(-x)); }
  int64_t per_colour() const { return c_.colours == 3 ? 3 : 2; }
  const MixtureCase& c_;
};

// Kernels are right within the rounding of T; the gradient, which is a difference quotient here, within more.
template <class T>
bool mixture_losses_right(const MixtureCase& c, const MixtureArrays<T>& a, const std::vector<T>& nll,
                          const std::vector<T>& grad_params) {
  const long double unit = sizeof(T) == 8 ? 1e-11L : 3e-5L, step = 1e-5L;
  const int64_t plane = mixture_plane(c), count = mixture_block_count(c) * c.mixtures;
  for (int64_t i = 0; i < c.batch * plane; ++i) {
    NaivePixel pixel(c, a, i / plane, i % plane);
    const long double expected = pixel.nll();
    if (!(std::abs(nll[i] - expected) <= unit * (1 + std::abs(expected)))) return false;
    for (int64_t p = 0; p < count; ++p) {
      const long double before = pixel.numbers[p];
      pixel.numbers[p] = before + step;
      const long double above = pixel.nll();
      pixel.numbers[p] = before - step;
      const long double slope = (above - pixel.nll()) / (2 * step) * a.grad[i];
      pixel.numbers[p] = before;
      const long double got = grad_params[(i / plane * count + p) * plane + i % plane];
      if (!(std::abs(got - slope) <= (unit + 1e-7L) * (1 + 10 * std::abs(slope)))) return false;
    }
  }
  return true;
}

// Levels that the formula gives, but for one next to it where its number lies half-way between the two.
template <class T>
bool mixture_samples_right(const MixtureCase& c, const MixtureArrays<T>& a, double temperature,
                           const std::vector<uint8_t>& levels) {
  const int64_t plane = mixture_plane(c);
  for (int64_t i = 0; i < c.batch * plane; ++i) {
    const int64_t image = i / plane, at = i % plane;
    const NaivePixel pixel(c, a, image, at);
    const auto noise = [&](int64_t n) -> long double {
      return a.noise[(image * (1 + c.colours) + n) * plane + at];
    };
    long double all = 0, sum = 0;
    for (int64_t k = 0; k < c.mixtures; ++k) all += std::exp(pixel.number(0, k) / temperature);
    int64_t chosen = 0;
    for (int64_t k = 0; k + 1 < c.mixtures; ++k) {
      sum += std::exp(pixel.number(0, k) / temperature);
      if (std::abs(sum / all - noise(0)) < 1e-5L) return true;  // a near tie decides the whole pixel
      chosen += sum <= noise(0) * all;
    }
    long double value[3];
    for (int64_t n = 0; n < c.colours; ++n) {
      const long double u = noise(1 + n), scale = std::exp(pixel.log_scale(n, chosen)) * temperature;
      const long double x = pixel.mean(n, chosen, value) + scale * std::log(u / (1 - u));
      const long double scaled = std::clamp((x + 1) * 127.5L, 0.0L, 255.0L);
      const int got = levels[(image * c.colours + n) * plane + at];
      if (std::abs(scaled - got) > 0.5L + 1e-3L * (sizeof(T) == 4)) return false;
      value[n] = got * 2 / 255.0L - 1;
    }
  }
  return true;
}

}  // namespace gcv
