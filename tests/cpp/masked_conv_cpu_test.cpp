// Drives the convolutions over taps at every instruction set and unit for pairs with exactly sized memory,
// for the sanitizers, and compares them with plain loops.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <thread>
#include <type_traits>

#include "common/gemm_pairs.h"
#include "masked_conv_naive.h"

namespace {

using gcv_test::Maps;
using gcv_test::TapLists;
using gcv_test::TapMask;

int failures = 0;
const char* where = "";

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// Not rounded up, and with NaN inside: the sanitizer sees the first byte too many, the comparison what was
// not set.
std::unique_ptr<void, Free> exactly(size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, std::max<size_t>(bytes, 1)) != 0) std::abort();
  std::fill_n(static_cast<unsigned char*>(p), bytes, (unsigned char)(0xff));
  return std::unique_ptr<void, Free>(p);
}

void in_halves(int64_t items, const std::function<void(int64_t, int64_t)>& run) {
  std::thread other([&] { run(0, items / 2); });
  run(items / 2, items);
  other.join();
}

template <class Element>
gcv::DType dtype_of() {
  return std::is_same<Element, double>::value      ? gcv::DType::f64
         : std::is_same<Element, gcv::Half>::value ? gcv::DType::f16
         : std::is_same<Element, float>::value     ? gcv::DType::f32
                                                   : gcv::DType::bf16;
}

template <class Element>
void set(Element& to, double x) {
  gcv::narrow(typename gcv::Compute<Element>::type(x), to);
}

template <class Element>
void fill(std::vector<Element>& values, int64_t seed) {
  for (size_t i = 0; i < values.size(); ++i)
    set(values[i], double((int64_t(i) * 7919 + seed) % 61 - 24) / 32);
}

template <class Element>
double tolerance() {
  return std::is_same<Element, double>::value      ? 1e-13
         : std::is_same<Element, float>::value     ? 2e-5
         : std::is_same<Element, gcv::Half>::value ? 4e-3
                                                   : 3e-2;
}

template <class Element>
bool close(Element got, double expected) {
  const double error = std::abs(double(gcv::widen(got)) - expected);
  return error <= tolerance<Element>() * (1 + std::abs(expected));
}

struct Shape {
  int64_t images, height, width;
  TapMask mask;
  bool input_last, output_last;
};

void report(bool right, const char* what, const Shape& s, int dtype) {
  if (right) return;
  ++failures;
  std::printf(
      "FAILED: %s, %s, dtype %d, %lld x %lld x %lld, channels %lld to %lld, kernel %lld x %lld, groups %lld, "
      "dilation %lld, own %d, mirrored %d, channels last %d and %d\n",
      where, what, dtype, static_cast<long long>(s.images), static_cast<long long>(s.height),
      static_cast<long long>(s.width), static_cast<long long>(s.mask.in), static_cast<long long>(s.mask.out),
      static_cast<long long>(s.mask.height), static_cast<long long>(s.mask.width),
      static_cast<long long>(s.mask.groups), static_cast<long long>(s.mask.dilation), s.mask.sees_own,
      s.mask.mirrored, s.input_last, s.output_last);
}

template <class Element>
struct Problem {
  Shape s;
  Maps<Element> input, grad;
  std::vector<Element> weight, bias;

  explicit Problem(const Shape& shape)
      : s(shape),
        input(s.images, s.mask.in, s.height, s.width, s.input_last),
        grad(s.images, s.mask.out, s.height, s.width, s.output_last),
        weight(size_t(s.mask.out * s.mask.in * s.mask.places())),
        bias(size_t(s.mask.out)) {
    fill(input.values, 1);
    fill(grad.values, 2);
    fill(weight, 3);
    fill(bias, 4);
    // What is hidden must not be multiplied.
    for (int64_t o = 0; o < s.mask.out; ++o) {
      for (int64_t c = 0; c < s.mask.in; ++c) {
        for (int64_t place = 0; place < s.mask.places(); ++place)
          if (!s.mask.sees(o, c, place))
            set(weight_at(o, c, place), std::numeric_limits<double>::quiet_NaN());
      }
    }
  }

  Element& weight_at(int64_t o, int64_t c, int64_t place) {
    return weight[size_t((o * s.mask.in + c) * s.mask.places() + place)];
  }

  // Sums of every output channel and pixel, without bias.
  std::vector<double> sums() {
    std::vector<double> found(size_t(s.images * s.mask.out * s.height * s.width));
    gcv_test::for_each_seen(s.mask, [&](int64_t o, int64_t c, int64_t place, int64_t dy, int64_t dx) {
      const double w = double(gcv::widen(weight_at(o, c, place)));
      size_t i = size_t(o * s.height * s.width);
      for (int64_t n = 0; n < s.images; ++n, i += size_t((s.mask.out - 1) * s.height * s.width)) {
        for (int64_t y = 0; y < s.height; ++y) {
          for (int64_t x = 0; x < s.width; ++x) found[i++] += w * input(n, c, y + dy, x + dx);
        }
      }
    });
    return found;
  }

  gcv::TapConvParams params(const TapLists& lists, bool transposed) {
    const int64_t wide = s.mask.in * s.mask.places();
    return {s.images,
            s.height,
            s.width,
            transposed ? s.mask.out : s.mask.in,
            transposed ? s.mask.in : s.mask.out,
            lists.groups.data(),
            int64_t(lists.groups.size()),
            {},
            {},
            weight.data(),
            transposed ? s.mask.places() : wide,
            transposed ? wide : s.mask.places(),
            nullptr,
            {},
            gcv::ConvEpilogue::none,
            dtype_of<Element>()};
  }
};

void run(const gcv::TapConvParams& p, bool at_once = false) {
  const auto packed = exactly(gcv::tap_conv_packed_bytes_cpu(p));
  const auto part = [&](int64_t begin, int64_t end) {
    gcv::tap_conv_cpu(p, packed.get(), exactly(gcv::tap_conv_scratch_cpu(p)).get(), begin, end);
  };
  in_halves(gcv::tap_conv_panels_cpu(p),
            [&](int64_t begin, int64_t end) { gcv::tap_conv_pack_cpu(p, packed.get(), begin, end); });
  if (at_once) return part(0, gcv::tap_conv_bands_cpu(p));
  in_halves(gcv::tap_conv_bands_cpu(p), part);
}

double elu(double x) { return x > 0 ? x : std::expm1(x); }

template <class Element>
void check_forward(const Shape& s) {
  Problem<Element> problem(s);
  const TapLists lists(s.mask, false);
  const auto sums = problem.sums();
  Maps<Element> condition(s.images, s.mask.out, s.height, s.width, !s.output_last);
  fill(condition.values, 9);
  for (const auto epilogue : {gcv::ConvEpilogue::none, gcv::ConvEpilogue::relu, gcv::ConvEpilogue::elu,
                              gcv::ConvEpilogue::concat_elu, gcv::ConvEpilogue::gate}) {
    const bool gated = epilogue == gcv::ConvEpilogue::gate,
               doubled = epilogue == gcv::ConvEpilogue::concat_elu;
    if (gated && s.mask.out % 2 != 0) continue;
    const int64_t channels = gated ? s.mask.out / 2 : doubled ? 2 * s.mask.out : s.mask.out;
    Maps<Element> output(s.images, channels, s.height, s.width, s.output_last), again = output.spaced();
    gcv::TapConvParams p = problem.params(lists, false);
    p.input = problem.input.maps();
    p.output = output.maps();
    p.epilogue = epilogue;
    p.bias = problem.bias.data();
    if (gated) p.condition = condition.maps();
    run(p);
    bool right = true;
    const auto sum = [&](int64_t n, int64_t c, int64_t y, int64_t x) {
      return sums[size_t(((n * s.mask.out + c) * s.height + y) * s.width + x)] +
             double(gcv::widen(problem.bias[size_t(c)])) + (gated ? condition(n, c, y, x) : 0.0);
    };
    for (int64_t n = 0; n < s.images; ++n) {
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t y = 0; y < s.height; ++y) {
          for (int64_t x = 0; x < s.width; ++x) {
            const double own = sum(n, c % s.mask.out, y, x);
            const double expected = epilogue == gcv::ConvEpilogue::relu  ? std::max(own, 0.0)
                                    : epilogue == gcv::ConvEpilogue::elu ? elu(own)
                                    : doubled                            ? elu(c < s.mask.out ? own : -own)
                                    : gated ? std::tanh(own) / (1 + std::exp(-sum(n, c + channels, y, x)))
                                            : own;
            right = right && close(output.at(n, c, y, x), expected);
          }
        }
      }
    }
    report(right, "forward", s, int(p.dtype));
    p.output = again.maps();
    run(p, true);
    for (size_t i = 0; i < output.values.size(); ++i)
      right = right && gcv::widen(output.values[i]) == gcv::widen(again.values[2 * i]);
    report(right, "bits of one thread, of spaced numbers", s, int(p.dtype));
  }
}

template <class Element>
void check_grad_input(const Shape& s) {
  Problem<Element> problem(s);
  const TapLists lists(s.mask, true);
  Maps<Element> output(s.images, s.mask.in, s.height, s.width, s.input_last);
  gcv::TapConvParams p = problem.params(lists, true);
  p.input = problem.grad.maps();
  p.output = output.maps();
  run(p);
  Maps<double> expected(s.images, s.mask.in, s.height, s.width, false);
  gcv_test::for_each_seen(s.mask, [&](int64_t o, int64_t c, int64_t place, int64_t dy, int64_t dx) {
    const double w = double(gcv::widen(problem.weight_at(o, c, place)));
    for (int64_t n = 0; n < s.images; ++n) {
      for (int64_t y = 0; y < s.height; ++y) {
        for (int64_t x = 0; x < s.width; ++x)
          expected.at(n, c, y, x) += w * problem.grad(n, o, y - dy, x - dx);
      }
    }
  });
  bool right = true;
  for (int64_t n = 0; n < s.images; ++n) {
    for (int64_t c = 0; c < s.mask.in; ++c) {
      for (int64_t y = 0; y < s.height; ++y) {
        for (int64_t x = 0; x < s.width; ++x)
          right = right && close(output.at(n, c, y, x), expected.at(n, c, y, x));
      }
    }
  }
  report(right, "gradient of the input", s, int(p.dtype));
}

template <class Element>
std::vector<Element> weight_gradient(Problem<Element>& problem, const TapLists& lists, bool at_once) {
  const Shape& s = problem.s;
  std::vector<Element> grad_weight = problem.weight;  // to be overwritten
  const gcv::TapConvWeightParams p{s.images,
                                   s.height,
                                   s.width,
                                   s.mask.in,
                                   s.mask.out,
                                   lists.groups.data(),
                                   int64_t(lists.groups.size()),
                                   problem.input.maps(),
                                   problem.grad.maps(),
                                   grad_weight.data(),
                                   s.mask.in * s.mask.places(),
                                   s.mask.places(),
                                   s.mask.places(),
                                   false,
                                   dtype_of<Element>()};
  const auto memory = exactly(gcv::tap_conv_weight_bytes_cpu(p));
  const auto share = [&](int64_t items, const std::function<void(int64_t, int64_t)>& part) {
    if (at_once) return part(0, items);
    in_halves(items, part);
  };
  const int64_t step = gcv::tap_conv_weight_images_cpu(p);
  for (int64_t first = 0; first < s.images; first += step) {
    share(std::min(step, s.images - first) * gcv::tap_conv_weight_slices_cpu(p),
          [&](int64_t begin, int64_t end) {
            gcv::tap_conv_weight_lay_out_cpu(p, memory.get(), first, begin, end);
          });
    share(gcv::tap_conv_weight_parts_cpu(p), [&](int64_t begin, int64_t end) {
      gcv::tap_conv_weight_sum_cpu(p, memory.get(), first, begin, end);
    });
  }
  share(gcv::tap_conv_weight_panels_cpu(p),
        [&](int64_t begin, int64_t end) { gcv::tap_conv_weight_write_cpu(p, memory.get(), begin, end); });
  return grad_weight;
}

template <class Element>
void check_grad_weight(const Shape& s) {
  Problem<Element> problem(s);
  const TapLists lists(s.mask, false);
  const auto got = weight_gradient(problem, lists, false);
  std::vector<double> expected(got.size());
  gcv_test::for_each_seen(s.mask, [&](int64_t o, int64_t c, int64_t place, int64_t dy, int64_t dx) {
    double sum = 0;
    for (int64_t n = 0; n < s.images; ++n) {
      for (int64_t y = 0; y < s.height; ++y) {
        for (int64_t x = 0; x < s.width; ++x)
          sum += problem.grad(n, o, y, x) * problem.input(n, c, y + dy, x + dx);
      }
    }
    expected[size_t((o * s.mask.in + c) * s.mask.places() + place)] = sum;
  });
  bool right = true;
  for (size_t i = 0; i < got.size(); ++i) {
    // Exactly zero where the mask hides.
    const bool zero = expected[i] == 0.0 &&
                      !s.mask.sees(int64_t(i) / s.mask.places() / s.mask.in,
                                   int64_t(i) / s.mask.places() % s.mask.in, int64_t(i) % s.mask.places());
    right = right && (zero ? gcv::widen(got[i]) == 0 : close(got[i], expected[i]));
  }
  report(right, "gradient of the weights", s, int(dtype_of<Element>()));
  const auto again = weight_gradient(problem, lists, true);
  right = true;
  for (size_t i = 0; i < got.size(); ++i) right = right && gcv::widen(got[i]) == gcv::widen(again[i]);
  report(right, "bits of the gradient of one thread", s, int(dtype_of<Element>()));
}

template <class Element>
void check_all() {
  for (bool last : {false, true}) {
    const Shape shapes[] = {
        {2, 9, 11, {6, 10, 3, 3, 1, 1, true, false}, last, last},
        {1, 5, 37, {36, 72, 3, 5, 3, 1, false, false}, last, !last},
        {1, 4, 100, {40, 34, 5, 3, 2, 2, true, true}, !last, last},
        {2, 3, 2, {33, 66, 7, 7, 1, 1, false, true}, last, last},
        {1, 20, 33, {64, 96, 3, 3, 1, 1, true, false}, last, last},
        {1, 1, 1, {1, 2, 1, 1, 1, 1, true, false}, last, last},
        {2, 3, 4, {3, 6, 3, 3, 3, 1, false, false}, last, last},
        {1, 2, 3, {128, 128, 3, 3, 2, 1, true, false}, last, !last},  // colours of whole blocks
    };
    for (const Shape& s : shapes) {
      check_forward<Element>(s);
      check_grad_input<Element>(s);
      check_grad_weight<Element>(s);
    }
  }
  check_grad_weight<Element>(
      {9, 130, 130, {2, 64, 1, 1, 1, 1, true, false}, false, false});                     // in sets of images
  check_grad_weight<Element>({1, 70, 3, {5, 6, 3, 3, 1, 1, true, false}, false, false});  // many rows
}

}  // namespace

int main() {
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    where = gcv::isa_name(isa);
    if (!gcv::set_isa(isa)) {
      std::printf("skipped %s: this processor lacks it\n", where);
      continue;
    }
    gcv::set_pair_unit(gcv::PairUnit::none);
    check_all<float>();
    check_all<double>();
    check_all<gcv::Half>();
    check_all<gcv::BFloat16>();
  }
  for (gcv::PairUnit unit : {gcv::PairUnit::avx512_bf16, gcv::PairUnit::amx}) {
    where = gcv::pair_unit_name(unit);
    if (!gcv::set_isa(gcv::Isa::avx512) || !gcv::set_pair_unit(unit)) {
      std::printf("skipped %s: this processor or system lacks it\n", where);
      continue;
    }
    check_all<gcv::BFloat16>();
  }
  std::printf("%s\n", failures ? "some checks failed" : "all checks passed");
  return failures ? 1 : 0;
}
