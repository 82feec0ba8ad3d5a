// RoI align by plain loops over samples, written from its definition, and problems for the test programs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <random>
#include <vector>

#include "roi/roi_align.h"

namespace gcv_test {

struct AlignLevel {
  int64_t height, width;
  double scale;
  std::vector<double> maps;  // [N, C, height, width]
};

struct AlignProblem {
  int64_t images, channels, rows, columns, ratio;
  bool aligned, is_max;
  std::vector<AlignLevel> levels;
  std::vector<double> areas;  // a region is one level up for each of them that its own reaches
  std::vector<double> boxes;  // rows of five
  std::vector<double> grad;   // [K, C, rows, columns]

  int64_t regions() const { return int64_t(boxes.size()) / 5; }
  int64_t bins() const { return rows * columns; }
  int64_t outputs() const { return regions() * channels * bins(); }
  bool is_sound(int64_t k) const {
    const double* box = &boxes[size_t(5 * k)];
    return box[0] > -1 && box[0] < double(images) &&
           std::all_of(box + 1, box + 5, [](double x) { return std::isfinite(x); });
  }
  // Negative: on none.
  int64_t level(int64_t k) const {
    if (!is_sound(k)) return -1;
    if (levels.size() == 1) return 0;
    const double* box = &boxes[size_t(5 * k)];
    const double area = (box[3] - box[1]) * (box[4] - box[2]);
    const auto reached = std::count_if(areas.begin(), areas.end(), [&](double a) { return area >= a; });
    return area >= 0 && size_t(reached) < levels.size() ? int64_t(reached) : -1;
  }

  // All but the memory that the boxes and the maps lie in.
  gcv::RoiAlignRegions shape(gcv::DType dtype) const {
    gcv::RoiAlignRegions r{};
    r.boxes = {nullptr, regions(), 5, dtype};
    r.batch = images;
    r.channels = channels;
    r.pooled_height = rows;
    r.pooled_width = columns;
    r.sampling_ratio = ratio;
    r.aligned = aligned;
    r.is_max = is_max;
    r.dtype = dtype;
    r.level_count = int64_t(levels.size());
    for (size_t i = 0; i < levels.size(); ++i)
      r.levels[i] = {nullptr, {}, levels[i].height, levels[i].width, levels[i].scale};
    r.area_count = int64_t(areas.size());
    std::copy(areas.begin(), areas.end(), r.areas);
    return r;
  }
};

// Boxes anywhere, in eighths; after them some that are reversed, empty, outside, larger than the map, or not
// sound. Maps of `kinds` values, none of them 0: where these are few, many samples are equal.
inline AlignProblem align_problem(int64_t images, int64_t channels, std::vector<AlignLevel> levels,
                                  int64_t rows, int64_t columns, int64_t ratio, bool aligned, bool is_max,
                                  int64_t boxes = 6, int kinds = 128) {
  AlignProblem p{images, channels, rows, columns, ratio, aligned, is_max, levels, {}, {}, {}};
  std::mt19937 random(unsigned(channels + boxes));
  const auto below = [&](int64_t n) { return double(random() % uint32_t(n)); };
  const double h = double(levels[0].height) / levels[0].scale, w = double(levels[0].width) / levels[0].scale;
  const auto add = [&](double image, std::initializer_list<double> corners) {
    p.boxes.push_back(image);
    for (double x : corners) p.boxes.push_back(std::round(8 * x) / 8);
  };
  for (int64_t k = 0; k < boxes; ++k) {
    const double x = (below(120) - 20) / 100 * w, y = (below(120) - 20) / 100 * h;
    add(below(images), {x, y, x + below(80) / 100 * w, y + below(80) / 100 * h});
  }
  const double nan = std::numeric_limits<double>::quiet_NaN();
  add(0, {0.75 * w, 0.75 * h, 0.25 * w, 0.25 * h});
  add(0, {0.25 * w, 0.75 * h, 0.75 * w, 0.25 * h});
  add(0, {0.25 * w, 0.5 * h, 0.25 * w, 0.5 * h});
  add(0, {3 * w, 3 * h, 4 * w, 4 * h});
  add(double(images - 1), {-w / 4, -h / 4, 5 * w / 4, 5 * h / 4});
  add(0, {0, nan, w, h});
  add(double(images), {0, 0, w, h});
  for (AlignLevel& level : p.levels) {
    level.maps.resize(size_t(images * channels * level.height * level.width));
    for (double& x : level.maps) x = (2 * below(kinds) - kinds + 1) / kinds;
  }
  for (int64_t i = 0; i < p.outputs(); ++i) p.grad.push_back((below(128) - 64) / 64);
  p.boxes.shrink_to_fit();  // the sanitizer sees a step beyond
  p.grad.shrink_to_fit();
  return p;
}

struct AlignResults {
  std::vector<double> output;
  std::vector<std::vector<double>> grad_maps;  // of each level, as its maps
  std::vector<double> grad_boxes;
};

// A sample of one axis: between two cells; how far it moves with either edge of the box.
template <class T>
struct AlignSample {
  int64_t low, high;
  T low_weight, high_weight;
  double with_from, with_to;
};

template <class T>
struct AlignBin {
  std::vector<AlignSample<T>> samples;  // on the map
  double count;                         // of all
};

// Positions are rounded as the kernels round them: which samples are on the map depends on it.
template <class T>
AlignBin<T> align_bin(const AlignProblem& p, double from, double to, double scale, int64_t bins, int64_t bin,
                      int64_t size) {
  const T offset = p.aligned ? T(0.5) : T(0), start = T(from) * T(scale) - offset;
  const T side = T(to) * T(scale) - offset - start;
  const bool at_least_one = !p.aligned && side < 1;
  const T step = (at_least_one ? T(1) : side) / T(bins);
  AlignBin<T> result{{}, p.ratio > 0 ? double(p.ratio) : std::fmax(std::ceil(double(step)), 0)};
  double first = 0, end = result.count;
  if (result.count > 1000) {  // only those near the map
    const double base = double(start) + double(bin) * double(step), cell = result.count / double(step);
    first = std::fmax(first, std::floor((-1 - base) * cell) - 2);
    end = std::fmin(end, std::ceil((double(size) - base) * cell) + 2);
  }
  for (double i = first; i < end; ++i) {
    const T at = start + T(bin) * step + (T(i) + T(0.5)) * step / T(result.count);
    if (!(at >= T(-1) && at <= T(size))) continue;
    const T inner = std::fmin(std::fmax(at, T(0)), T(size - 1)), low = std::floor(inner);
    const double along = (double(bin) + (i + 0.5) / result.count) / double(bins);
    const double moved = at > 0 && at < T(size - 1) ? scale : 0;
    result.samples.push_back({int64_t(low), std::min(int64_t(low) + 1, size - 1), T(1) - (inner - low),
                              inner - low, at_least_one ? moved : moved * (1 - along),
                              at_least_one ? 0 : moved * along});
  }
  return result;
}

// The channel of an image that a region lies on, and where the gradients go.
struct AlignPlane {
  const double* map;
  double* grad_map;
  double* grad_box;
  int64_t width;

  template <class T>
  T value(const AlignSample<T>& y, const AlignSample<T>& x) const {
    const auto column = [&](int64_t at) {
      return y.low_weight * T(map[y.low * width + at]) + y.high_weight * T(map[y.high * width + at]);
    };
    return x.low_weight * column(x.low) + x.high_weight * column(x.high);
  }

  // `grad` is the gradient of the sample.
  template <class T>
  void spread(const AlignSample<T>& y, const AlignSample<T>& x, double grad) const {
    double by_y = 0, by_x = 0;
    const auto add = [&](int64_t row, int64_t column, double y_weight, double x_weight, int y_sign,
                         int x_sign) {
      grad_map[row * width + column] += grad * y_weight * x_weight;
      by_y += y_sign * x_weight * map[row * width + column];
      by_x += x_sign * y_weight * map[row * width + column];
    };
    add(y.low, x.low, y.low_weight, x.low_weight, -1, -1);
    add(y.low, x.high, y.low_weight, x.high_weight, -1, 1);
    add(y.high, x.low, y.high_weight, x.low_weight, 1, -1);
    add(y.high, x.high, y.high_weight, x.high_weight, 1, 1);
    const auto move = [&](int edge, double by, double with) {
      if (with != 0) grad_box[edge] += grad * by * with;
    };
    move(1, by_x, x.with_from);
    move(2, by_y, y.with_from);
    move(3, by_x, x.with_to);
    move(4, by_y, y.with_to);
  }

  template <class T>
  double mean(const AlignBin<T>& ys, const AlignBin<T>& xs, double grad) const {
    const double count = std::fmax(ys.count * xs.count, 1);
    double sum = 0;
    for (const auto& y : ys.samples) {
      for (const auto& x : xs.samples) {
        sum += double(value(y, x));
        spread(y, x, grad / count);
      }
    }
    return sum / count;
  }

  // Samples off the map are zeros. The first of equals counts, and the first NaN.
  template <class T>
  double largest(const AlignBin<T>& ys, const AlignBin<T>& xs, double grad) const {
    const AlignSample<T>*best_y = nullptr, *best_x = nullptr;
    const size_t inside = ys.samples.size() * xs.samples.size();
    T best = double(inside) < ys.count * xs.count || inside == 0 ? T(0) : -std::numeric_limits<T>::infinity();
    for (const auto& y : ys.samples) {
      for (const auto& x : xs.samples) {
        const T here = value(y, x);
        if (!(here > best || (std::isnan(here) && !std::isnan(best)))) continue;
        best = here;
        best_y = &y;
        best_x = &x;
      }
    }
    if (best_y != nullptr) spread(*best_y, *best_x, grad);
    return double(best);
  }
};

// T is the type that is computed in.
template <class T>
AlignResults naive_align(const AlignProblem& p) {
  AlignResults r{std::vector<double>(size_t(p.outputs())), {}, std::vector<double>(p.boxes.size())};
  for (const AlignLevel& level : p.levels) r.grad_maps.push_back(std::vector<double>(level.maps.size()));
  const int64_t bins = p.bins();
  for (int64_t k = 0; k < p.regions(); ++k) {
    const int64_t first = k * p.channels * bins, number = p.level(k);
    if (!p.is_sound(k))
      std::fill_n(&r.output[size_t(first)], p.channels * bins, std::numeric_limits<double>::quiet_NaN());
    if (number < 0) continue;
    const AlignLevel& level = p.levels[size_t(number)];
    const double* box = &p.boxes[size_t(5 * k)];
    for (int64_t bin = 0; bin < bins; ++bin) {
      const auto y = align_bin<T>(p, box[2], box[4], level.scale, p.rows, bin / p.columns, level.height);
      const auto x = align_bin<T>(p, box[1], box[3], level.scale, p.columns, bin % p.columns, level.width);
      for (int64_t c = 0; c < p.channels; ++c) {
        const size_t at = size_t((int64_t(box[0]) * p.channels + c) * level.height * level.width);
        const AlignPlane plane{&level.maps[at], &r.grad_maps[size_t(number)][at],
                               &r.grad_boxes[size_t(5 * k)], level.width};
        const size_t i = size_t(first + c * bins + bin);
        r.output[i] = p.is_max ? plane.largest(y, x, p.grad[i]) : plane.mean(y, x, p.grad[i]);
      }
    }
  }
  return r;
}

// Equal within `tolerance`, of numbers larger than 1 relative to them.
inline bool close(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  for (size_t i = 0; i < b.size(); ++i) {
    const bool equal = std::isnan(b[i]) ? std::isnan(a[i])
                                        : std::abs(a[i] - b[i]) <= tolerance * std::fmax(1, std::abs(b[i]));
    if (!equal) return false;
  }
  return a.size() == b.size();
}

inline bool close(const AlignResults& a, const AlignResults& b, double tolerance) {
  for (size_t i = 0; i < b.grad_maps.size(); ++i)
    if (!close(a.grad_maps[i], b.grad_maps[i], tolerance)) return false;
  return close(a.output, b.output, tolerance) && close(a.grad_boxes, b.grad_boxes, tolerance);
}

}  // namespace gcv_test
