// Two masked 3 x 3 convolutions and a head as a program in exactly sized memory, and the same drawn pixel by
// pixel in double.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "mixture/mixture.h"
#include "pixel_sampling/program.h"

namespace gcv {

struct SamplingCase {
  SamplingHead head;
  int64_t colours, steps, hidden, images, lines, pixels;  // as many of the hidden channels for each step
};

inline std::vector<SamplingCase> sampling_cases() {
  return {{SamplingHead::bernoulli, 1, 1, 5, 3, 4, 5},  {SamplingHead::bernoulli, 3, 3, 6, 2, 3, 4},
          {SamplingHead::bernoulli, 2, 1, 3, 1, 1, 1},  {SamplingHead::softmax, 1, 1, 17, 5, 3, 3},
          {SamplingHead::softmax, 3, 3, 9, 1, 2, 3},    {SamplingHead::mixture, 3, 1, 4, 2, 3, 4},
          {SamplingHead::bernoulli, 1, 1, 40, 30, 2, 3}};
}

constexpr int64_t kSamplingTaps = 5;
constexpr std::array<std::array<int64_t, 2>, kSamplingTaps> kSamplingPlaces = {
    {{-1, -1}, {-1, 0}, {-1, 1}, {0, -1}, {0, 0}}};

// The program and all that it points to.
template <class T>
class SamplingArrays {
 public:
  SamplingProgram program{};
  std::vector<uint8_t> levels;
  std::vector<T> params, packed, sums;
  static constexpr int64_t kLayers = 2;
  std::array<std::vector<T>, kLayers> weights, biases;
  std::vector<float> noise;

  template <class Padded>
  SamplingArrays(const SamplingCase& c, Padded padded) : case_(c) {
    SamplingProgram& p = program;
    p.colours = c.colours;
    p.steps = c.steps;
    p.lines = c.lines;
    p.pixels = c.pixels;
    p.images = c.images;
    p.head = c.head;
    p.mixtures = 1;
    p.params = 2;
    p.dtype = sizeof(T) == 8 ? DType::f64 : DType::f32;
    p.temperature = 0.9;
    p.numbers = c.colours + (c.head == SamplingHead::mixture);
    const int64_t plane = c.images * c.lines * c.pixels;
    levels.assign(plane * c.colours, 0);
    given_.assign(plane * c.colours, false);
    const int64_t size = c.lines * c.pixels;
    for (int64_t i = 0; i < plane * c.colours; ++i) {
      // A mixture draws all colours of a pixel at once, so all of them are given.
      const int64_t number = c.head == SamplingHead::mixture ? i % size : i;
      if (number % 11 == 0) given_[i] = levels[i] = 1;
    }
    for (int64_t i = 0; i < plane * p.numbers; ++i)
      noise.push_back(uniform_of(uint32_t(2654435761u * (i + 1))));
    params.assign(plane * channels(2), T(-7));
    add_value(SamplingTier::drawn, 2);
    add_value(SamplingTier::pixel, 2);
    add_value(SamplingTier::pixel, 0);
    for (int64_t layer = 0; layer < kLayers; ++layer) add_layer(layer, padded);
    sums.resize(size_t(sums_size_));
    packed.resize(size_t(packed_size_));
    p.values = values_.data();
    p.instructions = instructions_.data();
    p.instruction_count = kLayers;
    p.packed = packed.data();
    p.sums = sums.data();
    p.levels = levels.data();
    p.given = reinterpret_cast<const bool*>(given_.data());
    p.noise = noise.data();
  }

  SamplingArrays(const SamplingArrays&) = delete;

  int64_t channels(int64_t value) const {
    if (value == 0) return case_.colours;
    if (value == 1) return case_.hidden;
    return case_.head == SamplingHead::softmax   ? 256 * case_.colours
           : case_.head == SamplingHead::mixture ? 10
                                                 : case_.colours;
  }

  bool is_given(size_t i) const { return given_[i] != 0; }

  // Channels of a layer's input that a step sees at a tap.
  int64_t limit(int64_t layer, int64_t tap, int64_t step) const {
    if (tap + 1 < kSamplingTaps) return channels(layer);
    return channels(layer) * (step + layer) / case_.steps;  // type A, type B
  }

 private:
  void add_value(SamplingTier tier, int64_t kept_lines) {
    const auto number = int64_t(values_.size());
    SamplingValue v{};
    starts_[number].resize(size_t(case_.steps + 1));
    for (int64_t s = 0; s <= case_.steps; ++s) starts_[number][s] = channels(number) * s / case_.steps;
    v.tier = tier;
    v.starts = starts_[number].data();
    v.kept_lines = std::max<int64_t>(1, kept_lines);
    v.by_image = channels(number);
    v.by_pixel = kept_lines > 0 ? case_.images * v.by_image : 0;
    v.by_line = case_.pixels * v.by_pixel;
    data_[number].assign(size_t(kept_lines > 0 ? kept_lines * v.by_line : case_.images * v.by_image), T(0));
    v.data = data_[number].data();
    values_.push_back(v);
  }

  template <class Padded>
  void add_layer(int64_t layer, Padded padded) {
    const int64_t in = channels(layer), out = channels(layer + 1), steps = case_.steps;
    for (int64_t i = 0; i < kSamplingTaps * in * out; ++i)
      weights[layer].push_back(T(0.7 * std::cos(1.3 * double(i) + double(layer))));
    for (int64_t i = 0; i < out; ++i) biases[layer].push_back(T(0.3 * std::sin(double(i))));
    SamplingInstruction i{};
    i.kind = SamplingKind::convolution;
    i.output = layer + 1;
    i.inputs[0] = layer;
    i.input_count = 1;
    i.activation = layer == 0 ? SamplingActivation::relu : SamplingActivation::none;
    i.weight = weights[layer].data();
    i.bias = biases[layer].data();
    i.columns = starts_[layer + 1].data();
    i.tap_count = kSamplingTaps;
    i.keeps_sums = true;
    i.packed = packed_size_;
    i.sums = sums_size_;
    for (int64_t t = 0; t < kSamplingTaps; ++t) {
      for (int64_t s = 0; s < steps; ++s) limits_[layer][t].push_back(limit(layer, t, s));
      taps_[layer][t] = {kSamplingPlaces[t][0], kSamplingPlaces[t][1], limits_[layer][t].data()};
    }
    i.taps = taps_[layer].data();
    for (int64_t s = 0; s < steps; ++s) {
      const int64_t width = padded(i.columns[s + 1] - i.columns[s]);
      for (int64_t t = 0; t < kSamplingTaps; ++t) packed_size_ += limit(layer, t, s) * width;
      i.sums_row += width;
    }
    sums_size_ += case_.pixels * case_.images * i.sums_row;
    instructions_.push_back(i);
  }

  const SamplingCase case_;
  std::vector<uint8_t> given_;
  std::vector<SamplingValue> values_;
  std::vector<SamplingInstruction> instructions_;
  std::array<std::vector<int64_t>, 3> starts_;
  std::array<std::vector<T>, 3> data_;
  std::array<std::array<SamplingTap, kSamplingTaps>, kLayers> taps_;
  std::array<std::array<std::vector<int64_t>, kSamplingTaps>, kLayers> limits_;
  int64_t packed_size_ = 0, sums_size_ = 0;
};

// Draws one image; `at` keeps values [line][pixel][channel] of the image and of the hidden layer.
template <class T>
class NaiveDrawing {
 public:
  NaiveDrawing(const SamplingCase& c, const SamplingArrays<T>& a, int64_t image)
      : c_(c), a_(a), image_(image) {
    for (int64_t v = 0; v < 3; ++v) maps_[v].assign(size_t(c.lines * c.pixels * a.channels(v)), 0);
  }

  // Whether the kernel's levels and params are these. A level that nearly ties ends the comparison.
  bool right() {
    for (int64_t y = 0; y < c_.lines; ++y) {
      for (int64_t x = 0; x < c_.pixels; ++x) {
        for (int64_t s = 0; s < c_.steps; ++s) {
          compute(0, y, x, s);
          compute(1, y, x, s);
          const int64_t each = a_.channels(2) / c_.steps;
          for (int64_t k = s * each; k < (s + 1) * each; ++k) {
            const double got = a_.params[((y * c_.pixels + x) * c_.images + image_) * a_.channels(2) + k];
            const double wanted = at(2, y, x)[k];
            if (!(std::abs(got - wanted) <= (sizeof(T) == 8 ? 1e-12 : 1e-4) * (1 + std::abs(wanted))))
              return false;
          }
          if (!draw(y, x, s)) return false;
        }
      }
    }
    return true;
  }

 private:
  double* at(int64_t value, int64_t y, int64_t x) {
    return maps_[value].data() + (y * c_.pixels + x) * a_.channels(value);
  }

  void compute(int64_t layer, int64_t y, int64_t x, int64_t step) {
    const int64_t in = a_.channels(layer), out = a_.channels(layer + 1);
    for (int64_t o = out * step / c_.steps; o < out * (step + 1) / c_.steps; ++o) {
      double sum = a_.biases[layer][o];
      for (int64_t t = 0; t < kSamplingTaps; ++t) {
        const int64_t v = y + kSamplingPlaces[t][0], u = x + kSamplingPlaces[t][1];
        if (v < 0 || u < 0 || u >= c_.pixels) continue;
        for (int64_t k = 0; k < a_.limit(layer, t, step); ++k)
          sum += at(layer, v, u)[k] * a_.weights[layer][(t * in + k) * out + o];
      }
      at(layer + 1, y, x)[o] = layer == 0 ? std::max(sum, 0.0) : sum;
    }
  }

  double noise(int64_t n, int64_t y, int64_t x) const {
    return a_.noise[((image_ * a_.program.numbers + n) * c_.lines + y) * c_.pixels + x];
  }

  // Takes over the kernel's level where it may be right.
  bool draw(int64_t y, int64_t x, int64_t step) {
    const int64_t first = c_.steps == 1 ? 0 : step, last = c_.steps == 1 ? c_.colours : step + 1;
    for (int64_t k = first; k < last; ++k) {
      const size_t place = size_t(((image_ * c_.colours + k) * c_.lines + y) * c_.pixels + x);
      const int level = a_.levels[place];
      if (a_.is_given(place) ? level != 1 : !may_be(level, k, y, x)) return false;
      at(0, y, x)[k] = c_.head == SamplingHead::bernoulli ? level : level * 2 / 255.0 - 1;
    }
    return true;
  }

  bool may_be(int level, int64_t colour, int64_t y, int64_t x) {
    const double slack = sizeof(T) == 8 ? 1e-9 : 1e-4, temperature = a_.program.temperature;
    const double* p = at(2, y, x);
    if (c_.head == SamplingHead::bernoulli) {
      const double one = 1 / (1 + std::exp(-p[colour] / temperature)), u = noise(colour, y, x);
      return level == 1 ? u < one + slack : level == 0 && u > one - slack;
    }
    if (c_.head == SamplingHead::softmax) {
      double all = 0, below = 0;
      const auto weight = [&](int k) { return std::exp(p[256 * colour + k] / temperature); };
      for (int k = 0; k < 256; ++k) all += weight(k);
      for (int k = 0; k < level; ++k) below += weight(k);
      const double u = noise(colour, y, x) * all;
      return below <= u + slack * all && u <= below + weight(level) + slack * all;
    }
    double mean = p[1 + 3 * colour];
    const double* value = at(0, y, x);
    if (colour == 1) mean += std::tanh(p[3]) * value[0];
    if (colour == 2) mean += std::tanh(p[6]) * value[0] + std::tanh(p[9]) * value[1];
    const double u = noise(1 + colour, y, x),
                 scale = std::exp(std::max(p[2 + 3 * colour], -7.0)) * temperature;
    const double scaled = std::min(std::max((mean + scale * std::log(u / (1 - u)) + 1) * 127.5, 0.0), 255.0);
    return std::abs(scaled - level) <= 0.5 + 255 * slack;
  }

  const SamplingCase& c_;
  const SamplingArrays<T>& a_;
  const int64_t image_;
  std::array<std::vector<double>, 3> maps_;
};

template <class T>
bool sampled_right(const SamplingCase& c, const SamplingArrays<T>& a) {
  for (int64_t n = 0; n < c.images; ++n) {
    if (!NaiveDrawing<T>(c, a, n).right()) return false;
  }
  return true;
}

}  // namespace gcv
