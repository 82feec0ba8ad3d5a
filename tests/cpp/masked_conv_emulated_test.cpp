// The launchers of csrc/masked_conv/masked_conv_cuda.h, executed by the emulator in exactly sized memory.
#include <cmath>
#include <vector>

#include "emulated_cases.h"
#include "masked_conv/masked_conv_cuda.h"
#include "masked_conv_naive.h"

namespace {

using gcv_test::Maps;
using gcv_test::TapMask;

template <class Element>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr gcv::DType value = gcv::DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr gcv::DType value = gcv::DType::f64;
};
template <>
struct DTypeOf<gcv::Half> {
  static constexpr gcv::DType value = gcv::DType::f16;
};
template <>
struct DTypeOf<gcv::BFloat16> {
  static constexpr gcv::DType value = gcv::DType::bf16;
};

template <class Element>
void fill(std::vector<Element>& values, int64_t seed) {
  int64_t i = seed;
  for (Element& value : values) {
    gcv::narrow(typename gcv::Compute<Element>::type((++i * 7919 + 13) % 31 - 15) / 16, value);
  }
}

std::vector<int64_t> rules(const TapMask& m) {
  const int64_t centre = m.height / 2 * m.width + m.width / 2;
  std::vector<int64_t> taps(size_t(m.places()), 0);
  for (int64_t place = 0; place < centre; ++place) taps[size_t(place)] = 1;
  taps[size_t(centre)] = m.sees_own ? 3 : 2;
  return taps;
}

// Everything of one convolution of 2 images.
template <class Element>
struct Problem {
  TapMask mask;
  Maps<Element> input, grad;
  std::vector<Element> weight;
  std::vector<int64_t> taps;
  gcv::MaskedConvParams params{};

  Problem(const TapMask& m, bool channels_last)
      : mask(m),
        input(2, m.in, 5, 7, channels_last),
        grad(2, m.out, 5, 7, channels_last),
        weight(size_t(m.out * m.in * m.places())),
        taps(rules(m)) {
    fill(input.values, 1);
    fill(grad.values, 2);
    fill(weight, 3);
    params.images = 2;
    params.height = 5;
    params.width = 7;
    params.in_channels = m.in;
    params.out_channels = m.out;
    params.mask = {taps.data(), m.height, m.width, m.groups, 1, {m.dilation, m.dilation}, {0, 0}};
    params.seen = gcv::seen_taps(params.mask);
    params.input = input.maps();
    params.grad = grad.maps();
    params.weight = weight.data();
    const int64_t strides[4] = {m.in * m.places(), m.places(), m.width, 1};
    for (int d = 0; d < 4; ++d) params.weight_strides[d] = strides[d];
    params.dtype = DTypeOf<Element>::value;
  }

  double weight_at(int64_t o, int64_t c, int64_t place) const {
    return double(gcv::widen(weight[size_t((o * mask.in + c) * mask.places() + place)]));
  }
};

template <class Element>
void require_close(const std::vector<Element>& found, const std::vector<double>& expected, const char* what) {
  const double tolerance = sizeof(Element) == 2 ? 0.02 : 1e-5;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = double(gcv::widen(found[i]));
    gcv::require(std::abs(value - expected[i]) <= tolerance * (1 + std::abs(expected[i])), what);  // not NaN
  }
}

// Calls run(n, y, x) for every pixel.
template <class Run>
void for_each_pixel(const Run& run) {
  for (int64_t n = 0; n < 2; ++n) {
    for (int64_t y = 0; y < 5; ++y) {
      for (int64_t x = 0; x < 7; ++x) run(n, y, x);
    }
  }
}

template <class Element>
void check_forward(Problem<Element>& problem, bool channels_last) {
  const TapMask& m = problem.mask;
  Maps<Element> output(2, m.out, 5, 7, channels_last);
  Maps<double> expected(2, m.out, 5, 7, channels_last);
  problem.params.output = output.maps();
  gcv::check_launch(gcv::masked_conv_cuda(problem.params, nullptr));
  gcv_test::for_each_seen(m, [&](int64_t o, int64_t c, int64_t place, int64_t dy, int64_t dx) {
    for_each_pixel([&](int64_t n, int64_t y, int64_t x) {
      expected.at(n, o, y, x) += problem.weight_at(o, c, place) * problem.input(n, c, y + dy, x + dx);
    });
  });
  require_close(output.values, expected.values, "forward");
}

template <class Element>
void check_grad_input(Problem<Element>& problem, bool channels_last) {
  const TapMask& m = problem.mask;
  Maps<Element> output(2, m.in, 5, 7, channels_last);
  Maps<double> expected(2, m.in, 5, 7, channels_last);
  problem.params.output = output.maps();
  gcv::check_launch(gcv::masked_conv_grad_input_cuda(problem.params, nullptr));
  gcv_test::for_each_seen(m, [&](int64_t o, int64_t c, int64_t place, int64_t dy, int64_t dx) {
    for_each_pixel([&](int64_t n, int64_t y, int64_t x) {
      expected.at(n, c, y, x) += problem.weight_at(o, c, place) * problem.grad(n, o, y - dy, x - dx);
    });
  });
  require_close(output.values, expected.values, "gradient of the input");
}

template <class Element>
void check_grad_weight(Problem<Element>& problem) {
  const TapMask& m = problem.mask;
  std::vector<Element> output(problem.weight.size());
  std::vector<double> expected(output.size());
  problem.params.output = {output.data(), {}};
  std::vector<char> workspace(gcv::masked_conv_grad_weight_bytes(problem.params), char(0xff));  // NaN
  gcv::check_launch(gcv::masked_conv_grad_weight_cuda(problem.params, workspace.data(), nullptr));
  gcv_test::for_each_seen(m, [&](int64_t o, int64_t c, int64_t place, int64_t dy, int64_t dx) {
    double& sum = expected[size_t((o * m.in + c) * m.places() + place)];
    for_each_pixel([&](int64_t n, int64_t y, int64_t x) {
      sum += problem.grad(n, o, y, x) * problem.input(n, c, y + dy, x + dx);
    });
  });
  require_close(output, expected, "gradient of the weight");
}

template <class Element>
void check() {
  const TapMask masks[] = {
      {4, 6, 3, 3, 1, 1, true, false}, {6, 9, 3, 3, 3, 1, false, false}, {34, 66, 1, 3, 2, 2, true, false}};
  for (const TapMask& mask : masks) {
    for (const bool channels_last : {false, true}) {
      Problem<Element> problem(mask, channels_last);
      check_forward(problem, channels_last);
      check_grad_input(problem, channels_last);
      check_grad_weight(problem);
    }
  }
}

template <class T>
void check_gate() {
  Maps<T> sums(2, 6, 5, 7, false), output(2, 3, 5, 7, false), grad(2, 3, 5, 7, false),
      grad_sums(2, 6, 5, 7, false);
  fill(sums.values, 4);
  fill(grad.values, 5);
  gcv::GateParams p{
      2, 3, 5, 7, sums.maps(), {}, output.maps(), grad.maps(), grad_sums.maps(), DTypeOf<T>::value};
  gcv::check_launch(gcv::gate_cuda(p, nullptr));
  gcv::check_launch(gcv::gate_backward_cuda(p, nullptr));
  for_each_pixel([&](int64_t n, int64_t y, int64_t x) {
    for (int64_t c = 0; c < 3; ++c) {
      const double t = std::tanh(sums(n, c, y, x)), s = 1 / (1 + std::exp(-sums(n, c + 3, y, x)));
      const double g = grad(n, c, y, x);
      gcv::require(std::abs(output(n, c, y, x) - t * s) < 1e-6, "gate");
      gcv::require(std::abs(grad_sums(n, c, y, x) - g * s * (1 - t * t)) < 1e-6, "gradient of tanh's half");
      gcv::require(std::abs(grad_sums(n, c + 3, y, x) - g * t * s * (1 - s)) < 1e-6,
                   "gradient of the other half");
    }
  });
}

const gcv::EmulatedCases kCases = {{"fp32", check<float>},
                                   {"fp64", check<double>},
                                   {"fp16", check<gcv::Half>},
                                   {"bf16", check<gcv::BFloat16>},
                                   {"gate", [] {
                                      check_gate<float>();
                                      check_gate<double>();
                                    }}};

}  // namespace

int main(int argc, char** argv) { return gcv::run_cases(kCases, argc, argv); }
