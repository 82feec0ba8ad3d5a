// A thread takes a pixel and goes through its components: neighbouring threads read neighbouring numbers.
#include "common/elements_cuda.h"
#include "mixture/mixture_cuda.h"
#include "mixture/mixture_pixel_cuda.h"

namespace gcv {
namespace {

constexpr int kThreads = 128;

__device__ __forceinline__ bool own_pixel(const MixtureMaps& m, MixturePixel& pixel) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= m.batch * mixture_pixels(m)) return false;
  pixel.column = i % m.width;
  pixel.row = i / m.width % m.height;
  pixel.image = i / m.width / m.height;
  return true;
}

// One component of a pixel.
template <class Element, int kColours>
struct Component {
  using T = ComputeOf<Element>;
  const MixtureMaps& m;
  const MixturePixel& pixel;
  T level[kColours], value[kColours];
  T logit, exponent, factor;
  LogisticBin<T> bin[kColours];
  T slope[3];

  __device__ __forceinline__ Component(const MixtureNllParams& p, const MixturePixel& at)
      : m(p.maps), pixel(at) {
#pragma unroll
    for (int c = 0; c < kColours; ++c) {
      level[c] = p.x_holds_levels
                     ? T(static_cast<const uint8_t*>(p.x.data)[mixture_offset(p.x.strides, pixel, c)])
                     : mixture_level(mixture_read<Element>(p.x, pixel, c));
      value[c] = mixture_value(level[c]);
    }
  }

  __device__ __forceinline__ T number(int64_t block, int64_t k) const {
    return mixture_read<Element>(m.params, pixel, block * m.mixtures + k);
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
  MixturePixel pixel;
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
  MixturePixel pixel;
  if (!own_pixel(m, pixel)) return;
  Component<Element, kColours> component(p.forward, pixel);
  const T grad = mixture_read<T>(p.grad, pixel, 0);
  ExponentialSum<T> all = no_exponentials<T>(), joint = no_exponentials<T>();
  for (int64_t k = 0; k < m.mixtures; ++k) component.add(k, all, joint);
  const auto write = [&](int64_t block, int64_t k, T x) {
    const int64_t at = mixture_offset(p.grad_params_strides, pixel, block * m.mixtures + k);
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
__global__ void __launch_bounds__(kThreads) sample_kernel(MixtureSampleParams p) {
  MixturePixel pixel;
  if (own_pixel(p.maps, pixel)) mixture_draw<Element>(p, pixel);
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
