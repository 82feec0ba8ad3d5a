// A thread takes a pixel and goes through its components: neighbouring threads read neighbouring numbers.
#include "common/elements_cuda.h"
#include "mixture/mixture_cuda.h"

namespace gcv {
namespace {

constexpr int kThreads = 128;

struct Pixel {
  int64_t image, row, column;
};

__device__ __forceinline__ bool own_pixel(const MixtureMaps& m, Pixel& pixel) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= m.batch * mixture_pixels(m)) return false;
  pixel.column = i % m.width;
  pixel.row = i / m.width % m.height;
  pixel.image = i / m.width / m.height;
  return true;
}

__device__ __forceinline__ int64_t offset(const int64_t (&strides)[4], const Pixel& pixel, int64_t channel) {
  return pixel.image * strides[0] + channel * strides[1] + pixel.row * strides[2] + pixel.column * strides[3];
}

template <class Element>
__device__ __forceinline__ ComputeOf<Element> read(const MixtureArray& a, const Pixel& pixel,
                                                   int64_t channel) {
  return widen(static_cast<const Element*>(a.data)[offset(a.strides, pixel, channel)]);
}

// One component of a pixel.
template <class Element, int kColours>
struct Component {
  using T = ComputeOf<Element>;
  const MixtureMaps& m;
  const Pixel& pixel;
  T level[kColours], value[kColours];
  T logit, exponent, factor;
  LogisticBin<T> bin[kColours];
  T slope[3];

  __device__ __forceinline__ Component(const MixtureNllParams& p, const Pixel& at) : m(p.maps), pixel(at) {
#pragma unroll
    for (int c = 0; c < kColours; ++c) {
      level[c] = p.x_holds_levels ? T(static_cast<const uint8_t*>(p.x.data)[offset(p.x.strides, pixel, c)])
                                  : mixture_level(read<Element>(p.x, pixel, c));
      value[c] = mixture_value(level[c]);
    }
  }

  __device__ __forceinline__ T number(int64_t block, int64_t k) const {
    return read<Element>(m.params, pixel, block * m.mixtures + k);
  }

  __device__ __forceinline__ T conditioned(int coefficient, int on, int64_t k) {
    return mixture_tanh(number(mixture_block(m, coefficient, kCoefficient), k), slope[coefficient]) *
           value[on];
  }

  __device__ __forceinline__ void evaluate(int64_t k) {
    logit = exponent = number(0, k);
    factor = T(1);
#pragma unroll
    for (int c = 0; c < kColours; ++c) {
      T mean = number(mixture_block(m, c, kMean), k);
      if (c == 1) mean += conditioned(0, 0, k);
      if (c == 2) mean = mean + conditioned(1, 0, k) + conditioned(2, 1, k);
      bin[c] = logistic_bin(level[c], mean, number(mixture_block(m, c, kLogScale), k));
      exponent += bin[c].exponent;
      factor *= bin[c].factor;
    }
  }

  // Of all components' weights, and of those times the pixel's probabilities.
  __device__ __forceinline__ void add(int64_t k, ExponentialSum<T>& all, ExponentialSum<T>& joint) {
    evaluate(k);
    add_exponential(logit, T(1), all);
    add_exponential(exponent, factor, joint);
  }
};

template <class Element, int kColours>
__global__ void __launch_bounds__(kThreads) nll_kernel(MixtureNllParams p) {
  using T = ComputeOf<Element>;
  Pixel pixel;
  if (!own_pixel(p.maps, pixel)) return;
  Component<Element, kColours> component(p, pixel);
  ExponentialSum<T> all = no_exponentials<T>(), joint = no_exponentials<T>();
  for (int64_t k = 0; k < p.maps.mixtures; ++k) component.add(k, all, joint);
  const int64_t at = (pixel.image * p.maps.height + pixel.row) * p.maps.width + pixel.column;
  static_cast<T*>(p.nll)[at] = logarithm_of(all) - logarithm_of(joint);
}

template <class Element, int kColours>
__global__ void __launch_bounds__(kThreads) nll_backward_kernel(MixtureNllBackwardParams p) {
  using T = ComputeOf<Element>;
  const MixtureMaps& m = p.forward.maps;
  Pixel pixel;
  if (!own_pixel(m, pixel)) return;
  Component<Element, kColours> component(p.forward, pixel);
  const T grad = read<T>(p.grad, pixel, 0);
  ExponentialSum<T> all = no_exponentials<T>(), joint = no_exponentials<T>();
  for (int64_t k = 0; k < m.mixtures; ++k) component.add(k, all, joint);
  const auto write = [&](int64_t block, int64_t k, T x) {
    const int64_t at = offset(p.grad_params_strides, pixel, block * m.mixtures + k);
    static_cast<Element*>(p.grad_params)[at] = narrow<Element>(x);
  };
  for (int64_t k = 0; k < m.mixtures; ++k) {
    component.evaluate(k);
    const T share = grad * (exponential(component.exponent - joint.most) * component.factor / joint.total);
    write(0, k, grad * (exponential(component.logit - all.most) / all.total) - share);
#pragma unroll
    for (int c = 0; c < kColours; ++c) {
      const T by_mean = -share * component.bin[c].by_mean;
      write(mixture_block(m, c, kMean), k, by_mean);
      write(mixture_block(m, c, kLogScale), k, -share * component.bin[c].by_log_scale);
      const auto write_coefficient = [&](int coefficient, int on) {
        write(mixture_block(m, coefficient, kCoefficient), k,
              by_mean * component.value[on] * component.slope[coefficient]);
      };
      if (c == 1) write_coefficient(0, 0);
      if (c == 2) write_coefficient(1, 0);
      if (c == 2) write_coefficient(2, 1);
    }
  }
}

template <class Element>
__device__ int64_t chosen_component(const MixtureSampleParams& p, const Pixel& pixel, float uniform) {
  using T = ComputeOf<Element>;
  const MixtureArray& params = p.maps.params;
  const T temperature = T(p.temperature);
  T most = read<Element>(params, pixel, 0);
  for (int64_t k = 1; k < p.maps.mixtures; ++k) {
    const T logit = read<Element>(params, pixel, k);
    most = logit > most ? logit : most;
  }
  T total = T(0), sum = T(0);
  for (int64_t k = 0; k < p.maps.mixtures; ++k)
    total = exact::add(total, mixture_weight(read<Element>(params, pixel, k), most, temperature));
  const T target = exact::mul(T(uniform), total);
  int64_t chosen = 0;
  for (int64_t k = 0; k + 1 < p.maps.mixtures; ++k) {
    sum = exact::add(sum, mixture_weight(read<Element>(params, pixel, k), most, temperature));
    chosen += sum <= target ? 1 : 0;
  }
  return chosen;
}

template <class Element>
__global__ void __launch_bounds__(kThreads) sample_kernel(MixtureSampleParams p) {
  using T = ComputeOf<Element>;
  const MixtureMaps& m = p.maps;
  Pixel pixel;
  if (!own_pixel(m, pixel)) return;
  const int64_t at = pixel.row * m.width + pixel.column;
  const PhiloxWords words = pixel_noise(p.seed, pixel.image, at, 0);
  const auto noise = [&](int i) {
    return p.noise.data ? read<float>(p.noise, pixel, i) : uniform_of(words.word[i]);
  };
  const int64_t k = chosen_component<Element>(p, pixel, noise(0));
  const auto number = [&](int64_t block) { return read<Element>(m.params, pixel, block * m.mixtures + k); };
  T value[3] = {};
  const auto conditioned = [&](T mean, int coefficient, int on) {
    T slope;
    const T tangent = mixture_tanh(number(mixture_block(m, coefficient, kCoefficient)), slope);
    return exact::add(mean, exact::mul(tangent, value[on]));
  };
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    if (c >= m.colours) break;
    T mean = number(mixture_block(m, c, kMean));
    if (c == 1) mean = conditioned(mean, 0, 0);
    if (c == 2) mean = conditioned(conditioned(mean, 1, 0), 2, 1);
    const T level =
        mixture_drawn(mean, number(mixture_block(m, c, kLogScale)), T(p.temperature), noise(1 + c));
    value[c] = mixture_value(level);
    p.levels[(pixel.image * m.colours + c) * mixture_pixels(m) + at] = uint8_t(int32_t(level));
  }
}

template <class Kernel, class Params>
cudaError_t launch_for(Kernel kernel, const Params& p, const MixtureMaps& m, cudaStream_t stream) {
  const int64_t pixels = m.batch * mixture_pixels(m);
  if (pixels == 0) return cudaSuccess;
  return launch(kernel, {dim3(unsigned(ceil_div<int64_t>(pixels, kThreads))), dim3(kThreads), 0, stream}, p);
}

}  // namespace

cudaError_t mixture_nll_cuda(const MixtureNllParams& p, cudaStream_t stream) {
  return with_element(p.maps.dtype, [&](auto element) {
    using Element = decltype(element);
    return launch_for(p.maps.colours == 3 ? nll_kernel<Element, 3> : nll_kernel<Element, 1>, p, p.maps,
                      stream);
  });
}

cudaError_t mixture_nll_backward_cuda(const MixtureNllBackwardParams& p, cudaStream_t stream) {
  const MixtureMaps& m = p.forward.maps;
  return with_element(m.dtype, [&](auto element) {
    using Element = decltype(element);
    return launch_for(m.colours == 3 ? nll_backward_kernel<Element, 3> : nll_backward_kernel<Element, 1>, p,
                      m, stream);
  });
}

cudaError_t mixture_sample_cuda(const MixtureSampleParams& p, cudaStream_t stream) {
  return with_element(p.maps.dtype, [&](auto element) {
    return launch_for(sample_kernel<decltype(element)>, p, p.maps, stream);
  });
}

}  // namespace gcv
