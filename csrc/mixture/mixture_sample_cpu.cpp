// Draws levels: a component by its weight, then colour by colour a level given those before.
#include "mixture/mixture_blocks.h"

namespace gcv::GCV_ISA {
namespace {

template <class T>
using Lanes = T[kLane];

template <class Element>
class Drawing {
  using T = typename Compute<Element>::type;

 public:
  Drawing(const MixtureSampleParams& p, const PixelBlock& block)
      : p_(p), block_(block), temperature_(T(p.temperature)) {
    read_noise();
  }

  void run() {
    choose_components();
    for (int64_t c = 0; c < p_.maps.colours; ++c) draw(c);
  }

 private:
  void read_noise() {
    if (p_.noise.data != nullptr) {
      for (int64_t c = 0; c <= p_.maps.colours; ++c) block_.read<float>(p_.noise, c, noise_[c]);
      return;
    }
    for (int i = 0; i < kLane; ++i) {
      const PhiloxWords words = pixel_noise(p_.seed, block_.image, block_.first + i, 0);
      for (int c = 0; c < 4; ++c) noise_[c][i] = uniform_of(words.word[c]);
    }
  }

  // The first whose weight, added to those before, passes the noise's part of all.
  void choose_components() {
    Lanes<T> logit, most, sum;
    for (int64_t k = 0; k < p_.maps.mixtures; ++k) {
      block_.read<Element>(p_.maps.params, k, logit);
      for (int i = 0; i < kLane; ++i) most[i] = k == 0 || logit[i] > most[i] ? logit[i] : most[i];
    }
    for (int i = 0; i < kLane; ++i) sum[i] = T(0);
    for (int64_t k = 0; k < p_.maps.mixtures; ++k) add_weights(k, most, sum);
    Lanes<T> target;
    for (int i = 0; i < kLane; ++i) {
      target[i] = exact::mul(T(noise_[0][i]), sum[i]);
      sum[i] = T(0);
      chosen_[i] = 0;
    }
    for (int64_t k = 0; k + 1 < p_.maps.mixtures; ++k) {
      add_weights(k, most, sum);
      for (int i = 0; i < kLane; ++i) chosen_[i] += sum[i] <= target[i] ? 1 : 0;
    }
  }

  void add_weights(int64_t k, const T (&most)[kLane], T (&sum)[kLane]) const {
    Lanes<T> logit;
    block_.read<Element>(p_.maps.params, k, logit);
    for (int i = 0; i < kLane; ++i)
      sum[i] = exact::add(sum[i], mixture_weight(logit[i], most[i], temperature_));
  }

  void draw(int64_t c) {
    Lanes<T> mean, log_scale;
    read_chosen(mixture_block(p_.maps, c, kMean), mean);
    read_chosen(mixture_block(p_.maps, c, kLogScale), log_scale);
    if (c == 1) condition(0, 0, mean);
    if (c == 2) {
      condition(1, 0, mean);
      condition(2, 1, mean);
    }
    Lanes<T> level;
    for (int i = 0; i < kLane; ++i) {
      level[i] = mixture_drawn(mean[i], log_scale[i], temperature_, noise_[1 + c][i]);
      value_[c][i] = mixture_value(level[i]);
    }
    uint8_t* to = p_.levels + (block_.image * p_.maps.colours + c) * mixture_pixels(p_.maps) + block_.first;
    for (int64_t i = 0; i < block_.count; ++i) to[i] = uint8_t(int32_t(level[i]));
  }

  void condition(int coefficient, int on, T (&mean)[kLane]) const {
    Lanes<T> raw;
    read_chosen(mixture_block(p_.maps, coefficient, kCoefficient), raw);
    for (int i = 0; i < kLane; ++i) {
      T slope;
      mean[i] = exact::add(mean[i], exact::mul(mixture_tanh(raw[i], slope), value_[on][i]));
    }
  }

  // A number of each pixel's own component.
  void read_chosen(int64_t number, T (&to)[kLane]) const {
    const MixtureArray& params = p_.maps.params;
    const auto* from = static_cast<const Element*>(params.data);
    block_.each(params.strides, [&](int64_t i, int64_t at) {
      to[i] = widen(from[at + block_.start(params.strides, number * p_.maps.mixtures + chosen_[i])]);
    });
    for (int64_t i = block_.count; i < kLane; ++i) to[i] = T(0);
  }

  const MixtureSampleParams& p_;
  const PixelBlock& block_;
  const T temperature_;
  float noise_[4][kLane];
  int32_t chosen_[kLane];
  Lanes<T> value_[3];
};

template <class Element>
void sample(const MixtureSampleParams& p, int64_t begin, int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    const PixelBlock block = PixelBlock::of(p.maps, b);
    Drawing<Element>(p, block).run();
  }
}

}  // namespace

void mixture_sample_cpu(const MixtureSampleParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.maps.dtype, sample, p, begin, end);
}

}  // namespace gcv::GCV_ISA
