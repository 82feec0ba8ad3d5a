// Discretised mixture of logistics over the 256 levels of a pixel's colours: what a caller hands to the
// kernels, and the maths. Free of torch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/dtype.h"
#include "common/isa.h"
#include "common/log.h"
#include "common/philox.h"

namespace gcv {

struct MixtureArray {
  const void* data;
  int64_t strides[4];  // in elements: image, channel, row, column
};

// params [batch, blocks * mixtures, height, width]: a block holds one number of every component. First the
// logits, then of each colour the means and the log-scales and, where there are three colours, a coefficient.
struct MixtureMaps {
  MixtureArray params;
  int64_t batch, height, width, mixtures;
  int64_t colours;  // 1 or 3
  DType dtype;
};

struct MixtureNllParams {
  MixtureMaps maps;
  MixtureArray x;  // [batch, colours, height, width]: levels as uint8, or numbers in [-1, 1] of the dtype
  bool x_holds_levels;
  void* nll;  // out [batch, height, width], dense; float, or double where the dtype is
};

struct MixtureNllBackwardParams {
  MixtureNllParams forward;  // but for its output
  MixtureArray grad;         // [batch, any, height, width], of the output's type
  void* grad_params;         // out, of the size of params
  int64_t grad_params_strides[4];
};

struct MixtureSampleParams {
  MixtureMaps maps;
  MixtureArray noise;  // [batch, 1 + colours, height, width] float, or null: made from the seed
  uint64_t seed;
  double temperature;
  uint8_t* levels;  // out [batch, colours, height, width], dense
};

GCV_HD int64_t mixture_pixels(const MixtureMaps& m) { return m.height * m.width; }

// Of each colour; the block of a number is mixture_block(m, colour, number).
enum MixtureNumber { kMean, kLogScale, kCoefficient };

GCV_HD int64_t mixture_block(const MixtureMaps& m, int64_t colour, int64_t number) {
  return 1 + colour * (m.colours == 3 ? 3 : 2) + number;
}

inline constexpr double kMixtureLeastLogScale = -7;
inline constexpr double kMixtureHalfBin = 1.0 / 255;
inline constexpr double kMixtureLogBin = -4.848116364598481;  // log(2 / 255)

// The number in [-1, 1] that a level stands for.
template <class T>
GCV_HD T mixture_value(T level) {
  return exact::sub(exact::mul(level, T(2.0 / 255)), T(1));
}

// The level next to a number, from 0 to 255; NaN of NaN.
template <class T>
GCV_HD T mixture_level(T value) {
  const T scaled = exact::mul(exact::add(value, T(1)), T(127.5));
  const T floored = scaled < T(0) ? T(0) : scaled;
  const T clamped = floored > T(255) ? T(255) : floored;
  return exact::sub(exact::add(clamped, ExpOf<T>::kRound), ExpOf<T>::kRound);  // to the nearest integer
}

template <class T>
GCV_HD T mixture_clamped(T log_scale) {
  return log_scale < T(kMixtureLeastLogScale) ? T(kMixtureLeastLogScale) : log_scale;
}

// The hyperbolic tangent and its slope.
template <class T>
GCV_HD T mixture_tanh(T x, T& slope) {
  const T e = exponential(exact::mul(T(-2), x < 0 ? -x : x)), plus = exact::add(T(1), e);
  slope = T(4) * e / (plus * plus);
  const T y = exact::div(exact::sub(T(1), e), plus);
  return x < 0 ? -y : y;
}

// sinh(y) / y for 0 <= y < 0.5, by its series.
GCV_HD float sinh_ratio(float y) {
  const float z = y * y;
  return 1.0f + z * (1.0f / 6 + z * (1.0f / 120 + z * (1.0f / 5040)));
}

GCV_HD double sinh_ratio(double y) {
  const double z = y * y;
  return 1.0 + z * (1.0 / 6 +
                    z * (1.0 / 120 +
                         z * (1.0 / 5040 +
                              z * (1.0 / 362880 + z * (1.0 / 39916800 + z * (1.0 / 6227020800 +
                                                                             z * (1.0 / 1307674368000)))))));
}

// The probability that a logistic variable lies in a level's bin is factor * e^exponent, factor being of
// moderate size: 0.02 to 75.
template <class T>
struct LogisticBin {
  T exponent, factor;
  T by_mean, by_log_scale;  // derivatives of the probability's logarithm
};

// With a = |x - mean| / scale, y = (1 / 255) / scale, u = e^-a and t = e^-y an inner bin has the probability
//   sigmoid(a + y) - sigmoid(a - y) = u (1 - t^2) / ((1 + u t) (t + u)),  1 - t^2 = 2 y t sinh(y) / y,
// and those at the ends sigmoid(p), p = y - (distance to the mean, outwards) / scale. Nothing cancels.
template <class T>
GCV_HD LogisticBin<T> logistic_bin(T level, T mean, T log_scale) {
  const T clamped = mixture_clamped(log_scale);
  const T inverse = exponential(-clamped);
  const T centre = mixture_value(level) - mean;
  const bool is_low = level < T(0.5), is_end = is_low || level > T(254.5);
  const T towards_end = is_low ? T(1) : T(-1);
  const T sign = centre < 0 ? T(-1) : T(1);
  const T y = T(kMixtureHalfBin) * inverse;
  const T p = centre * towards_end * inverse + y;
  const T a = centre * sign * inverse;
  const T p_size = p < 0 ? -p : p;
  const T u = exponential(is_end ? -p_size : -a);
  const T t = exponential(-y);
  const T ratio = y < T(0.5) ? sinh_ratio(y) : (T(1) - t * t) / (T(2) * y * t);
  const T ut = u * t;
  const T q = T(1) / (is_end ? T(1) + u : (T(1) + ut) * (t + u));
  const T pull = t * (T(1) - u * u) * q;      // of an inner bin: minus the derivative by a
  const T end_pull = (p < 0 ? T(1) : u) * q;  // of one at an end: the derivative by p
  const T widening = t / ratio + y * t * (T(1) + T(2) * ut + u * u) * q;
  const T by_log_scale = is_end ? -p * end_pull : a * pull - widening;
  LogisticBin<T> bin;
  bin.exponent = is_end ? (p < 0 ? p : T(0)) : T(kMixtureLogBin) - clamped - a;
  bin.factor = is_end ? q : t * ratio * q;
  bin.by_mean = inverse * (is_end ? -towards_end * end_pull : sign * pull);
  bin.by_log_scale = log_scale <= T(kMixtureLeastLogScale) ? T(0) : by_log_scale;  // as torch.clamp's
  return bin;
}

// A sum of factor * e^exponent, as total * e^most.
template <class T>
struct ExponentialSum {
  T most, total;
};

template <class T>
GCV_HD ExponentialSum<T> no_exponentials() {
  return {T(sizeof(T) == 4 ? -0x1.fffffep127 : -0x1.fffffffffffffp1023), T(0)};  // -inf - -inf would be NaN
}

template <class T>
GCV_HD void add_exponential(T exponent, T factor, ExponentialSum<T>& sum) {
  const bool rises = exponent > sum.most;
  const T e = exponential(rises ? sum.most - exponent : exponent - sum.most);
  sum.total = rises ? sum.total * e + factor : sum.total + factor * e;
  sum.most = rises ? exponent : sum.most;
}

template <class T>
GCV_HD T logarithm_of(const ExponentialSum<T>& sum) {
  return sum.most + logarithm(sum.total);
}

// The weight with which sampling draws a component; of the largest logit 1.
template <class T>
GCV_HD T mixture_weight(T logit, T most, T temperature) {
  return exponential(exact::div(exact::sub(logit, most), temperature));
}

// The level of a logistic variable at the quantile `uniform`; 0 of NaN.
template <class T>
GCV_HD T mixture_drawn(T mean, T log_scale, T temperature, float uniform) {
  const T below = T(uniform), odds = exact::div(below, exact::sub(T(1), below));
  const T scale = exact::mul(exponential(mixture_clamped(log_scale)), temperature);
  const T level = mixture_level(exact::add(mean, exact::mul(scale, logarithm(odds))));
  return level > T(0) ? level : T(0);
}

// A block is kMixtureBlock neighbouring pixels of an image.
inline constexpr int64_t kMixtureBlock = 64;

GCV_HD int64_t mixture_blocks(const MixtureMaps& m) {
  return (mixture_pixels(m) + kMixtureBlock - 1) / kMixtureBlock;
}

// For blocks [begin, end) of batch * mixture_blocks(maps).
GCV_PER_ISA(void, mixture_nll_cpu, (const MixtureNllParams& p, int64_t begin, int64_t end), (p, begin, end))
GCV_PER_ISA(void, mixture_sample_cpu, (const MixtureSampleParams& p, int64_t begin, int64_t end),
            (p, begin, end))

// Every concurrent call needs a workspace of its own, of mixture_nll_backward_workspace_bytes(p) bytes,
// aligned to 64.
GCV_PER_ISA(size_t, mixture_nll_backward_workspace_bytes, (const MixtureNllBackwardParams& p), (p))
GCV_PER_ISA(void, mixture_nll_backward_cpu,
            (const MixtureNllBackwardParams& p, void* workspace, int64_t begin, int64_t end),
            (p, workspace, begin, end))

}  // namespace gcv
