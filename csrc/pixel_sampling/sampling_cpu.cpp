// The sampler's instructions for a line or a pixel, and the drawing of levels.
#include <algorithm>

#include "masked_conv/gate.h"
#include "mixture/mixture.h"
#include "pixel_sampling/sums_cpu.h"

namespace gcv::GCV_ISA {
namespace {

template <class T>
void activate(SamplingActivation activation, const T* x, int64_t count, T* to) {
  switch (activation) {
    case SamplingActivation::none:
      for (int64_t c = 0; c < count; ++c) to[c] = x[c];
      break;
    case SamplingActivation::relu:
      for (int64_t c = 0; c < count; ++c) to[c] = x[c] < 0 ? T(0) : x[c];  // NaN stays
      break;
    case SamplingActivation::elu:
      for (int64_t c = 0; c < count; ++c) to[c] = elu_of(x[c]);
      break;
    case SamplingActivation::concat_elu:
      for (int64_t c = 0; c < count; ++c) {
        to[c] = elu_of(x[c]);
        to[count + c] = elu_of(-x[c]);
      }
      break;
    case SamplingActivation::gate:
      for (int64_t c = 0; c < count / 2; ++c) to[c] = gate(x[c], x[count / 2 + c]);
      break;
    case SamplingActivation::tanh:
      for (int64_t c = 0; c < count; ++c) to[c] = tanh_of(x[c]);
      break;
    case SamplingActivation::sigmoid:
      for (int64_t c = 0; c < count; ++c) to[c] = sigmoid(x[c]);
      break;
  }
}

template <class T>
class Execution {
 public:
  Execution(const SamplingProgram& p, const SamplingInstruction& i)
      : p_(p), i_(i), output_(p.values[i.output]) {}

  // Everything that a step knows, at all of the places.
  void run(const Places& at, int64_t step, Taps taps) const {
    if (output_.starts[step] == output_.starts[step + 1]) return;
    if (i_.kind == SamplingKind::convolution)
      Sums<T>(p_, i_, taps, step).run(at, taps == Taps::rest && i_.keeps_sums);
    for (int64_t x = at.pixels.begin; x < at.pixels.end; ++x) {
      for (int64_t n = at.images.begin; n < at.images.end; ++n) finish(at.line, x, n, step);
    }
  }

 private:
  T* input(int64_t which, int64_t line, int64_t x, int64_t n) const {
    return row_of<T>(p_.values[i_.inputs[which]], line, x, n);
  }

  void finish(int64_t line, int64_t x, int64_t n, int64_t step) const {
    const int64_t first = output_.starts[step], last = output_.starts[step + 1];
    T* output = row_of<T>(output_, line, x, n);
    const T* a = i_.kind == SamplingKind::convolution ? nullptr : input(0, line, x, n);
    switch (i_.kind) {
      case SamplingKind::convolution:
        finish_sums(line, x, n, step, output + first);
        break;
      case SamplingKind::activation: {
        const int64_t* starts = p_.values[i_.inputs[0]].starts + step;
        activate(i_.activation, a + starts[0], starts[1] - starts[0], output + first);
        break;
      }
      case SamplingKind::add: {
        const T* b = input(1, line, x, n);
        for (int64_t c = first; c < last; ++c) output[c] = a[c] + b[c];
        break;
      }
      case SamplingKind::multiply: {
        const T* b = input(1, line, x, n);
        for (int64_t c = first; c < last; ++c) output[c] = a[c] * b[c];
        break;
      }
      case SamplingKind::copy:
        for (int64_t c = first; c < last; ++c)
          output[c] = input(i_.sources[2 * c], line, x, n)[i_.sources[2 * c + 1]];
        break;
    }
  }

  void finish_sums(int64_t line, int64_t x, int64_t n, int64_t step, T* output) const {
    const int64_t first = i_.columns[step], count = i_.columns[step + 1] - first;
    T* sums = sums_of<T>(p_, i_, x, n) + padded_start<T>(i_, step);
    if (i_.bias != nullptr) {
      const T* bias = static_cast<const T*>(i_.bias) + first;
      for (int64_t c = 0; c < count; ++c) sums[c] += bias[c];
    }
    if (i_.input_count > 1) {
      const T* condition = input(1, line, x, n) + first;
      for (int64_t c = 0; c < count; ++c) sums[c] += condition[c];
    }
    activate(i_.activation, sums, count, output);
  }

  const SamplingProgram& p_;
  const SamplingInstruction& i_;
  const SamplingValue& output_;
};

constexpr int kLevels = 256;
constexpr int64_t kTogether = 4;  // images whose softmax is drawn at once

// Draws one line of some images.
template <class T>
class Drawing {
 public:
  Drawing(const SamplingProgram& p, int64_t line, SamplingRange images, T* params, void* scratch)
      : p_(p),
        line_(line),
        images_(images),
        params_(params),
        drawn_(static_cast<uint8_t*>(scratch) + images.begin * p.colours),
        weights_(reinterpret_cast<T*>(static_cast<uint8_t*>(scratch) + round_up(p.images * p.colours, 64))) {}

  void run() {
    for (int64_t x = 0; x < p_.pixels; ++x) {
      for (int64_t step = 0; step < p_.steps; ++step) {
        execute(SamplingTier::pixel, x, step);
        draw(x, step);
        execute(SamplingTier::drawn, x, step);
      }
      if (params_ != nullptr) keep_params(x);
    }
  }

 private:
  void execute(SamplingTier tier, int64_t x, int64_t step) {
    const Places here{line_, {x, x + 1}, images_};
    for (int64_t i = 0; i < p_.instruction_count; ++i) {
      const SamplingInstruction& instruction = p_.instructions[i];
      if (p_.values[instruction.output].tier == tier)
        Execution<T>(p_, instruction).run(here, step, Taps::rest);
    }
  }

  const T* params_of(int64_t x, int64_t n) const { return row_of<T>(p_.values[p_.params], line_, x, n); }

  void keep_params(int64_t x) {
    const int64_t channels = p_.values[p_.params].starts[p_.steps];
    for (int64_t n = images_.begin; n < images_.end; ++n)
      std::copy_n(params_of(x, n), channels, params_ + (x * p_.images + n) * channels);
  }

  int64_t place(int64_t n, int64_t channels, int64_t channel, int64_t x) const {
    return ((n * channels + channel) * p_.lines + line_) * p_.pixels + x;
  }

  void draw(int64_t x, int64_t step) {
    const int64_t first = p_.steps == 1 ? 0 : step, last = p_.steps == 1 ? p_.colours : step + 1;
    if (p_.head == SamplingHead::mixture) draw_mixture(x);
    for (int64_t c = first; c < last; ++c) {
      if (p_.head == SamplingHead::softmax) draw_softmax(x, c);
      if (p_.head == SamplingHead::bernoulli) draw_bernoulli(x, c);
      for (int64_t n = images_.begin; n < images_.end; ++n) {
        const int64_t at = place(n, p_.colours, c, x);
        if (!p_.given[at]) p_.levels[at] = drawn(c)[n - images_.begin];
        const T level = T(p_.levels[at]);
        row_of<T>(p_.values[p_.image], line_, x, n)[c] =
            p_.head == SamplingHead::bernoulli ? level : mixture_value(level);
      }
    }
  }

  // Of a colour, for each image.
  uint8_t* drawn(int64_t colour) const { return drawn_ + colour * (images_.end - images_.begin); }

  T noise(int64_t n, int64_t colour, int64_t x) const { return T(p_.noise[place(n, p_.numbers, colour, x)]); }

  void draw_bernoulli(int64_t x, int64_t colour) {
    for (int64_t n = images_.begin; n < images_.end; ++n)
      drawn(colour)[n - images_.begin] =
          noise(n, colour, x) < sigmoid(params_of(x, n)[colour] / T(p_.temperature));
  }

  // A few images at once: their sums, whose order decides, do not wait for each other.
  void draw_softmax(int64_t x, int64_t colour) {
    for (int64_t n = images_.begin; n < images_.end; n += kTogether) {
      const int64_t count = std::min(kTogether, images_.end - n);
      for (int64_t i = 0; i < count; ++i)
        weigh(params_of(x, n + i) + colour * kLevels, weights_ + i * kLevels);
      for (int k = 1; k < kLevels; ++k) {
        for (int64_t i = 0; i < kTogether; ++i) weights_[i * kLevels + k] += weights_[i * kLevels + k - 1];
      }
      for (int64_t i = 0; i < count; ++i) {
        const T* sums = weights_ + i * kLevels;
        const T target = noise(n + i, colour, x) * sums[kLevels - 1];
        int chosen = 0;
        for (int k = 0; k + 1 < kLevels; ++k) chosen += sums[k] <= target;
        drawn(colour)[n + i - images_.begin] = uint8_t(chosen);
      }
    }
  }

  void weigh(const T* logits, T* weights) const {
    constexpr int kWidth = 16;  // maxima side by side
    T most[kWidth];
    for (T& m : most) m = logits[0];
    for (int k = 0; k < kLevels; k += kWidth) {
      for (int j = 0; j < kWidth; ++j) most[j] = logits[k + j] > most[j] ? logits[k + j] : most[j];
    }
    for (int j = 1; j < kWidth; ++j) most[0] = most[j] > most[0] ? most[j] : most[0];
    const T temperature = T(p_.temperature);
    for (int k = 0; k < kLevels; ++k) weights[k] = exponential((logits[k] - most[0]) / temperature);
  }

  // The images are the pixels of one image, for which the room of mixtures has its kernel.
  void draw_mixture(int64_t x) {
    const SamplingValue& params = p_.values[p_.params];
    const int64_t count = images_.end - images_.begin, noise_plane = p_.lines * p_.pixels;
    const float* noise = p_.noise + place(images_.begin, p_.numbers, 0, x);
    MixtureSampleParams m{};
    m.maps = {{params_of(x, images_.begin), {0, 1, 0, params.by_image}},
              1,
              1,
              count,
              p_.mixtures,
              p_.colours,
              p_.dtype};
    m.noise = {noise, {0, noise_plane, 0, p_.numbers * noise_plane}};
    m.temperature = p_.temperature;
    m.levels = drawn_;
    GCV_ISA::mixture_sample_cpu(m, 0, mixture_blocks(m.maps));
  }

  const SamplingProgram& p_;
  const int64_t line_;
  const SamplingRange images_;
  T* params_;
  uint8_t* drawn_;
  T* weights_;
};

template <class T>
void run_line(const SamplingProgram& p, int64_t instruction, int64_t line, SamplingRange pixels) {
  for (int64_t step = 0; step < p.steps; ++step)
    Execution<T>(p, p.instructions[instruction]).run({line, pixels, {0, p.images}}, step, Taps::all);
}

template <class T>
void run_ahead(const SamplingProgram& p, int64_t instruction, int64_t line, SamplingRange pixels) {
  for (int64_t step = 0; step < p.steps; ++step)
    Sums<T>(p, p.instructions[instruction], Taps::ahead, step).run({line, pixels, {0, p.images}}, false);
}

}  // namespace

int64_t sampling_padded_cpu(DType dtype, int64_t columns) {
  return round_up(columns, dtype == DType::f64 ? kLanes<double> : kLanes<float>);
}

void sampling_pack_cpu(const SamplingProgram& p, int64_t instruction) {
  p.dtype == DType::f64 ? pack<double>(p, p.instructions[instruction])
                        : pack<float>(p, p.instructions[instruction]);
}

void sampling_line_cpu(const SamplingProgram& p, int64_t instruction, int64_t line, SamplingRange pixels) {
  p.dtype == DType::f64 ? run_line<double>(p, instruction, line, pixels)
                        : run_line<float>(p, instruction, line, pixels);
}

void sampling_ahead_cpu(const SamplingProgram& p, int64_t instruction, int64_t line, SamplingRange pixels) {
  p.dtype == DType::f64 ? run_ahead<double>(p, instruction, line, pixels)
                        : run_ahead<float>(p, instruction, line, pixels);
}

size_t sampling_scratch_cpu(const SamplingProgram& p) {
  return size_t(round_up(p.images * p.colours, 64)) + kTogether * kLevels * sizeof(double);
}

void sampling_pixels_cpu(const SamplingProgram& p, int64_t line, SamplingRange images, void* params,
                         void* scratch) {
  p.dtype == DType::f64 ? Drawing<double>(p, line, images, static_cast<double*>(params), scratch).run()
                        : Drawing<float>(p, line, images, static_cast<float*>(params), scratch).run();
}

}  // namespace gcv::GCV_ISA
