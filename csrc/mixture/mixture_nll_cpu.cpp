// The loss and its gradient: each evaluates a block's components once, in first-level cache.
#include "mixture/mixture_blocks.h"

namespace gcv::GCV_ISA {
namespace {

template <class T>
using Lanes = T[kLane];

template <class Element>
using ComputeOf = typename Compute<Element>::type;

template <class T>
struct Sums {
  Lanes<T> most, total;

  Sums() {
    for (int i = 0; i < kLane; ++i) put(i, no_exponentials<T>());
  }

  void put(int i, const ExponentialSum<T>& sum) {
    most[i] = sum.most;
    total[i] = sum.total;
  }

  void add(const T (&exponent)[kLane], const T (&factor)[kLane]) {
    for (int i = 0; i < kLane; ++i) {
      ExponentialSum<T> sum{most[i], total[i]};
      add_exponential(exponent[i], factor[i], sum);
      put(i, sum);
    }
  }

  void add(const T (&exponent)[kLane]) {
    for (int i = 0; i < kLane; ++i) {
      ExponentialSum<T> sum{most[i], total[i]};
      add_exponential(exponent[i], T(1), sum);
      put(i, sum);
    }
  }

  void logarithms(T (&to)[kLane]) const {
    for (int i = 0; i < kLane; ++i) to[i] = logarithm_of(ExponentialSum<T>{most[i], total[i]});
  }
};

// What a component makes of a block's pixels.
template <class T, int kColours>
struct ComponentLanes {
  Lanes<T> logit, exponent, factor;
  Lanes<T> by_mean[kColours], by_log_scale[kColours];
  Lanes<T> slope[3];  // of the tangents: green on red, blue on red, blue on green
};

// Evaluates components; the maths runs in loops over lanes.
template <class Element, int kColours>
class Mixture {
  using T = ComputeOf<Element>;

 public:
  Mixture(const MixtureNllParams& p, const PixelBlock& block) : m_(p.maps), block_(block) {
    for (int c = 0; c < kColours; ++c) read_levels(p, c);
  }

  void evaluate(int64_t k, ComponentLanes<T, kColours>& to) const {
    read(0, k, to.logit);
    for (int i = 0; i < kLane; ++i) {
      to.exponent[i] = to.logit[i];
      to.factor[i] = T(1);
    }
    for (int c = 0; c < kColours; ++c) {
      Lanes<T> mean, log_scale;
      read(mixture_block(m_, c, kMean), k, mean);
      read(mixture_block(m_, c, kLogScale), k, log_scale);
      if (c == 1) condition(0, 0, k, mean, to);
      if (c == 2) {
        condition(1, 0, k, mean, to);
        condition(2, 1, k, mean, to);
      }
      for (int i = 0; i < kLane; ++i) {
        const LogisticBin<T> bin = logistic_bin(level_[c][i], mean[i], log_scale[i]);
        to.exponent[i] += bin.exponent;
        to.factor[i] *= bin.factor;
        to.by_mean[c][i] = bin.by_mean;
        to.by_log_scale[c][i] = bin.by_log_scale;
      }
    }
  }

  const T* value(int colour) const { return value_[colour]; }

 private:
  void read(int64_t number, int64_t k, T (&to)[kLane]) const {
    block_.read<Element>(m_.params, number * m_.mixtures + k, to);
  }

  void read_levels(const MixtureNllParams& p, int c) {
    T(&level)[kLane] = level_[c];
    if (p.x_holds_levels) {
      block_.read<uint8_t>(p.x, c, level);
    } else {
      block_.read<Element>(p.x, c, level);
      for (int i = 0; i < kLane; ++i) level[i] = mixture_level(level[i]);
    }
    for (int i = 0; i < kLane; ++i) value_[c][i] = mixture_value(level[i]);
  }

  // Adds the coefficient in a colour's block times the value of colour `on`.
  void condition(int coefficient, int on, int64_t k, T (&mean)[kLane],
                 ComponentLanes<T, kColours>& to) const {
    Lanes<T> raw;
    read(mixture_block(m_, coefficient, kCoefficient), k, raw);
    for (int i = 0; i < kLane; ++i) mean[i] += mixture_tanh(raw[i], to.slope[coefficient][i]) * value_[on][i];
  }

  const MixtureMaps& m_;
  const PixelBlock& block_;
  Lanes<T> level_[kColours], value_[kColours];
};

template <class Element, int kColours>
void nll_of_block(const MixtureNllParams& p, const PixelBlock& block) {
  using T = ComputeOf<Element>;
  const Mixture<Element, kColours> mixture(p, block);
  ComponentLanes<T, kColours> component;
  Sums<T> all, joint;
  for (int64_t k = 0; k < p.maps.mixtures; ++k) {
    mixture.evaluate(k, component);
    all.add(component.logit);
    joint.add(component.exponent, component.factor);
  }
  Lanes<T> log_all, log_joint;
  all.logarithms(log_all);
  joint.logarithms(log_joint);
  T* nll = static_cast<T*>(p.nll) + block.image * mixture_pixels(p.maps) + block.first;
  for (int64_t i = 0; i < block.count; ++i) nll[i] = log_all[i] - log_joint[i];
}

// Gradients of a component, given its share of the probability in each pixel.
template <class Element, int kColours>
class Gradients {
  using T = ComputeOf<Element>;

 public:
  Gradients(const MixtureNllBackwardParams& p, const PixelBlock& block,
            const Mixture<Element, kColours>& mixture)
      : p_(p), block_(block), mixture_(mixture) {}

  void put(int64_t k, const ComponentLanes<T, kColours>& component, const T (&share)[kLane]) const {
    for (int c = 0; c < kColours; ++c) {
      Lanes<T> by_mean, by_log_scale;
      for (int i = 0; i < kLane; ++i) {
        by_mean[i] = -share[i] * component.by_mean[c][i];
        by_log_scale[i] = -share[i] * component.by_log_scale[c][i];
      }
      write(by_mean, mixture_block(maps(), c, kMean), k);
      write(by_log_scale, mixture_block(maps(), c, kLogScale), k);
      if (c == 1) put_coefficient(0, component, 0, by_mean, k);
      if (c == 2) {
        put_coefficient(1, component, 0, by_mean, k);
        put_coefficient(2, component, 1, by_mean, k);
      }
    }
  }

  void write(const T (&from)[kLane], int64_t number, int64_t k) const {
    block_.write<Element>(from, p_.grad_params, p_.grad_params_strides, number * maps().mixtures + k);
  }

 private:
  const MixtureMaps& maps() const { return p_.forward.maps; }

  void put_coefficient(int coefficient, const ComponentLanes<T, kColours>& component, int on,
                       const T (&by_mean)[kLane], int64_t k) const {
    Lanes<T> by_coefficient;
    const T* value = mixture_.value(on);
    for (int i = 0; i < kLane; ++i)
      by_coefficient[i] = by_mean[i] * value[i] * component.slope[coefficient][i];
    write(by_coefficient, mixture_block(maps(), coefficient, kCoefficient), k);
  }

  const MixtureNllBackwardParams& p_;
  const PixelBlock& block_;
  const Mixture<Element, kColours>& mixture_;
};

// A component's share of the probability is known once all components are: what they are waits in the
// workspace.
template <class Element, int kColours>
void gradients_of_block(const MixtureNllBackwardParams& p, void* workspace, const PixelBlock& block) {
  using T = ComputeOf<Element>;
  const int64_t mixtures = p.forward.maps.mixtures;
  const Mixture<Element, kColours> mixture(p.forward, block);
  const Gradients<Element, kColours> gradients(p, block, mixture);
  auto* components = static_cast<ComponentLanes<T, kColours>*>(workspace);
  Sums<T> all, joint;
  for (int64_t k = 0; k < mixtures; ++k) {
    mixture.evaluate(k, components[k]);
    all.add(components[k].logit);
    joint.add(components[k].exponent, components[k].factor);
  }
  Lanes<T> grad;
  block.read<T>(p.grad, 0, grad);
  for (int64_t k = 0; k < mixtures; ++k) {
    const ComponentLanes<T, kColours>& component = components[k];
    Lanes<T> share, by_logit;
    for (int i = 0; i < kLane; ++i) {
      share[i] = grad[i] *
                 (exponential(component.exponent[i] - joint.most[i]) * component.factor[i] / joint.total[i]);
      by_logit[i] = grad[i] * (exponential(component.logit[i] - all.most[i]) / all.total[i]) - share[i];
    }
    gradients.write(by_logit, 0, k);
    gradients.put(k, component, share);
  }
}

template <class Element>
void nll(const MixtureNllParams& p, int64_t begin, int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    const PixelBlock block = PixelBlock::of(p.maps, b);
    p.maps.colours == 3 ? nll_of_block<Element, 3>(p, block) : nll_of_block<Element, 1>(p, block);
  }
}

template <class Element>
void nll_backward(const MixtureNllBackwardParams& p, void* workspace, int64_t begin, int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    const PixelBlock block = PixelBlock::of(p.forward.maps, b);
    p.forward.maps.colours == 3 ? gradients_of_block<Element, 3>(p, workspace, block)
                                : gradients_of_block<Element, 1>(p, workspace, block);
  }
}

}  // namespace

void mixture_nll_cpu(const MixtureNllParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.maps.dtype, nll, p, begin, end);
}

size_t mixture_nll_backward_workspace_bytes(const MixtureNllBackwardParams& p) {
  const MixtureMaps& m = p.forward.maps;
  const size_t one =
      m.dtype == DType::f64 ? sizeof(ComponentLanes<double, 3>) : sizeof(ComponentLanes<float, 3>);
  return size_t(m.mixtures) * one;
}

void mixture_nll_backward_cpu(const MixtureNllBackwardParams& p, void* workspace, int64_t begin,
                              int64_t end) {
  GCV_BY_DTYPE(p.forward.maps.dtype, nll_backward, p, workspace, begin, end);
}

}  // namespace gcv::GCV_ISA
