// Position-sensitive regions by plain loops over all pixels, in double, and problems for the kernels.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "roi/position_sensitive.h"

namespace gcv {

struct PsProblem {
  int64_t images, bin_channels, height, width, bins_y, bins_x;
  double scale;
  int64_t ratio;
  std::vector<double> boxes;  // rows of five

  int64_t regions() const { return int64_t(boxes.size()) / 5; }
  int64_t channels() const { return bin_channels * bins_y * bins_x; }
  int64_t pixels() const { return images * channels() * height * width; }
  int64_t results() const { return regions() * channels(); }
};

// A number in [-1, 1] that float16 has exactly.
inline double ps_noise(int64_t i) { return double((i * 7919 + 13) % 257 - 128) / 128; }

// What one bin reads along one axis: a weight for each pixel; they are divided by `count`.
struct PsNaiveBin {
  std::vector<double> weights;
  double count;
};

inline PsNaiveBin ps_naive_samples(double low, double high, const PsProblem& p, int64_t bins, int64_t bin,
                                   int64_t size) {
  const double start = low * p.scale - 0.5, step = (high - low) * p.scale / double(bins);
  const int64_t grid = p.ratio > 0 ? p.ratio : int64_t(std::ceil(step));
  PsNaiveBin result{std::vector<double>(size_t(size)), grid > 0 ? double(grid) : 0};
  for (int64_t s = 0; s < grid; ++s) {
    double at = start + double(bin) * step + (double(s) + 0.5) * step / double(grid);
    if (at < -1 || at > double(size)) continue;
    at = at < 0 ? 0 : at > double(size - 1) ? double(size - 1) : at;
    // A hat of width 1 around each pixel.
    for (int64_t x = 0; x < size; ++x) {
      const double distance = std::abs(at - double(x));
      if (distance < 1) result.weights[size_t(x)] += 1 - distance;
    }
  }
  return result;
}

inline PsNaiveBin ps_naive_pixels(double low, double high, const PsProblem& p, int64_t bins, int64_t bin,
                                  int64_t size) {
  const double first = std::round(low * p.scale), extent = std::fmax(std::round(high * p.scale) - first, 1);
  const double step = extent / double(bins);
  PsNaiveBin result{std::vector<double>(size_t(size)), 0};
  for (int64_t x = 0; x + 1 < size; ++x) {
    const double place = double(x) - first;
    if (place < std::floor(double(bin) * step) || place >= std::ceil(double(bin + 1) * step)) continue;
    result.weights[size_t(x)] = 1;
    result.count += 1;
  }
  return result;
}

// Calls visit(result, pixel, weight) for all that the results read, and nan(result) for those that are NaN.
template <class Visit, class Nan>
inline void ps_naive(const PsProblem& p, bool pool, Visit visit, Nan nan) {
  const auto bin_of = pool ? ps_naive_pixels : ps_naive_samples;
  for (int64_t k = 0; k < p.regions(); ++k) {
    const double* box = &p.boxes[size_t(5 * k)];
    bool sound = box[0] > -1 && box[0] < double(p.images);
    for (int d = 1; d < 5; ++d) sound = sound && std::isfinite(box[d]);
    for (int64_t c = 0; c < p.channels(); ++c) {
      const int64_t result = k * p.channels() + c;
      if (!sound) {
        nan(result);
        continue;
      }
      const PsNaiveBin y = bin_of(box[2], box[4], p, p.bins_y, c / p.bins_x % p.bins_y, p.height);
      const PsNaiveBin x = bin_of(box[1], box[3], p, p.bins_x, c % p.bins_x, p.width);
      if (!(y.count * x.count > 0)) continue;
      const int64_t plane = (int64_t(box[0]) * p.channels() + c) * p.height * p.width;
      for (int64_t i = 0; i < p.height * p.width; ++i) {
        const double weight = y.weights[size_t(i / p.width)] * x.weights[size_t(i % p.width)];
        if (weight != 0) visit(result, plane + i, weight / (y.count * x.count));
      }
    }
  }
}

inline std::vector<double> ps_naive_forward(const PsProblem& p, bool pool, const std::vector<double>& input) {
  std::vector<double> output(size_t(p.results()));
  ps_naive(
      p, pool, [&](int64_t r, int64_t i, double w) { output[size_t(r)] += w * input[size_t(i)]; },
      [&](int64_t r) { output[size_t(r)] = NAN; });
  return output;
}

inline std::vector<double> ps_naive_backward(const PsProblem& p, bool pool, const std::vector<double>& grad) {
  std::vector<double> grad_input(size_t(p.pixels()));
  ps_naive(
      p, pool, [&](int64_t r, int64_t i, double w) { grad_input[size_t(i)] += w * grad[size_t(r)]; },
      [](int64_t) {});
  return grad_input;
}

// The slope of sum(grad * output) along each coordinate, by differences.
inline std::vector<double> ps_naive_boxes(const PsProblem& p, const std::vector<double>& input,
                                          const std::vector<double>& grad) {
  constexpr double step = 1e-5;
  std::vector<double> slopes(p.boxes.size());
  for (int64_t k = 0; k < p.regions(); ++k) {
    for (int64_t d = 1; d < 5; ++d) {
      double difference = 0;
      for (int sign : {1, -1}) {
        PsProblem moved = p;
        moved.boxes.assign(p.boxes.begin() + 5 * k, p.boxes.begin() + 5 * k + 5);
        moved.boxes[size_t(d)] += sign * step;
        const std::vector<double> output = ps_naive_forward(moved, false, input);
        for (int64_t c = 0; c < p.channels(); ++c) {
          const double g = grad[size_t(k * p.channels() + c)];
          if (!std::isnan(output[size_t(c)])) difference += sign * g * output[size_t(c)];
        }
      }
      slopes[size_t(5 * k + d)] = difference / (2 * step);
    }
  }
  return slopes;
}

// Inside, outside, reversed, and not finite; where `odd`, of no image as well.
inline std::vector<double> ps_boxes(int64_t count, int64_t images, double height, double width, bool odd) {
  std::vector<double> boxes;
  for (int64_t k = 0; k < count; ++k) {
    const double x = width * (0.6 * ps_noise(5 * k) + 0.4), y = height * (0.6 * ps_noise(5 * k + 1) + 0.4);
    const double w = width * 0.37 * (ps_noise(5 * k + 2) + 1.013),
                 h = height * 0.41 * (ps_noise(5 * k + 3) + 1.017);
    boxes.insert(boxes.end(), {double(k % images), x + 0.013, y + 0.017, x + w + 0.029, y + h + 0.031});
  }
  if (!odd) return boxes;
  boxes.insert(boxes.end(), {0, NAN, 1, 2, 3});
  boxes.insert(boxes.end(), {0, 0.3, 1.2, INFINITY, 3});
  boxes.insert(boxes.end(), {-1, 0.3, 1.2, 2.2, 3.1});
  boxes.insert(boxes.end(), {double(images), 0.3, 1.2, 2.2, 3.1});
  boxes.insert(boxes.end(), {0, 3.4, 4.7, 0.6, 1.1});
  boxes.insert(boxes.end(), {0, -90.3, -80.2, -70.1, -60.4});
  return boxes;
}

inline PsProblem ps_problem(int64_t regions, int64_t bin_channels, int64_t height, int64_t width,
                            int64_t ratio, bool odd) {
  return {2, bin_channels, height, width, 3, 2, 0.5, ratio, ps_boxes(regions, 2, 2 * height, 2 * width, odd)};
}

inline std::vector<double> ps_numbers(int64_t count) {
  std::vector<double> numbers(size_t(count > 0 ? count : 0));
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = ps_noise(int64_t(i));
  return numbers;
}

template <class E>
constexpr DType kPsTypeOf = DType::f32;
template <>
inline constexpr DType kPsTypeOf<double> = DType::f64;
template <>
inline constexpr DType kPsTypeOf<Half> = DType::f16;
template <>
inline constexpr DType kPsTypeOf<BFloat16> = DType::bf16;

template <class E>
std::vector<E> ps_elements(const std::vector<double>& numbers) {
  std::vector<E> elements(numbers.size());
  for (size_t i = 0; i < numbers.size(); ++i) narrow(typename Compute<E>::type(numbers[i]), elements[i]);
  return elements;
}

// Numbers of a dense tensor [a, b, c, d] with the second dimension last in memory.
template <class E>
std::vector<E> ps_channels_last(const std::vector<E>& dense, int64_t a, int64_t b, int64_t cd) {
  std::vector<E> moved(dense.size());
  for (int64_t i = 0; i < a; ++i) {
    for (int64_t j = 0; j < b; ++j) {
      for (int64_t k = 0; k < cd; ++k)
        moved[size_t((i * cd + k) * b + j)] = dense[size_t((i * b + j) * cd + k)];
    }
  }
  return moved;
}

// Boxes are float, but double for double maps.
template <class E>
using PsBoxOf = std::conditional_t<std::is_same<E, double>::value, double, float>;

template <class E>
PsGeometry ps_geometry_of(const PsProblem& p, bool pool, const std::vector<PsBoxOf<E>>& boxes) {
  return {{boxes.data(), p.regions(), 5, kPsTypeOf<PsBoxOf<E>>},
          p.images,
          p.channels(),
          p.height,
          p.width,
          p.bins_y,
          p.bins_x,
          p.scale,
          p.ratio,
          pool,
          kPsTypeOf<E>};
}

// As far apart as the element's precision excuses.
template <class E>
bool ps_close(const std::vector<E>& actual, const std::vector<double>& expected) {
  const double allowed = std::is_same<E, double>::value     ? 1e-7
                         : std::is_same<E, float>::value    ? 2e-5
                         : std::is_same<E, BFloat16>::value ? 2e-2
                                                            : 3e-3;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double a = double(widen(actual[i])), e = expected[i];
    if (std::isnan(a) != std::isnan(e) || std::abs(a - e) > allowed * (1 + std::abs(e))) return false;
  }
  return true;
}

}  // namespace gcv
