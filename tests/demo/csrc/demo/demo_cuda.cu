// Forward: a thread per element. Backward: a block per channel, whose fixed order of summation makes it
// deterministic.
#include "common/cuda.h"
#include "demo/demo_cuda.h"

namespace gcv {
namespace {

constexpr int kThreads = 128;

struct Place {
  int64_t n, c, h, w;
};

__device__ __forceinline__ Place place_in_channel(const Sizes4& size, int64_t c, int64_t i) {
  return {i / (size.h * size.w), c, i / size.w % size.h, i % size.w};
}

__device__ __forceinline__ int64_t offset(const Strides4& s, const Place& p) {
  return offset(s, p.n, p.c, p.h, p.w);
}

template <class Element>
__global__ void __launch_bounds__(kThreads) forward_kernel(ScaledTanhParams p) {
  const int64_t per_channel = p.size.n * p.size.h * p.size.w;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= per_channel * p.size.c) return;
  const Place place = place_in_channel(p.size, i / per_channel, i % per_channel);
  const auto x = widen(static_cast<const Element*>(p.x)[offset(p.x_strides, place)]);
  const auto scale = widen(static_cast<const Element*>(p.scale)[place.c * p.scale_stride]);
  narrow(scaled_tanh(x, scale), static_cast<Element*>(p.y)[offset(p.y_strides, place)]);
}

template <class Element>
__global__ void __launch_bounds__(kThreads) backward_kernel(ScaledTanhBackwardParams p) {
  using T = typename Compute<Element>::type;
  GCV_SHARED(T, sums, [kThreads]);
  const int64_t c = blockIdx.x;
  const int thread = int(threadIdx.x);
  const T scale = widen(static_cast<const Element*>(p.scale)[c * p.scale_stride]);
  T sum = 0;
  for (int64_t i = thread; i < p.size.n * p.size.h * p.size.w; i += kThreads) {
    const Place place = place_in_channel(p.size, c, i);
    const T grad = widen(static_cast<const Element*>(p.grad)[offset(p.grad_strides, place)]);
    const T x = widen(static_cast<const Element*>(p.x)[offset(p.x_strides, place)]);
    const ScaledTanhGrads<T> grads = scaled_tanh_grads(grad, x, scale);
    narrow(grads.x, static_cast<Element*>(p.grad_x)[offset(p.grad_x_strides, place)]);
    sum += grads.scale;
  }
  sums[thread] = sum;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) sums[thread] += sums[thread + half];
  }
  if (thread == 0) narrow(sums[0], static_cast<Element*>(p.grad_scale)[c]);
}

template <class Element>
cudaError_t forward(const ScaledTanhParams& p, cudaStream_t stream) {
  const int64_t count = p.size.n * p.size.c * p.size.h * p.size.w;
  const dim3 grid(unsigned((count + kThreads - 1) / kThreads));
  return launch(forward_kernel<Element>, {grid, dim3(kThreads), 0, stream}, p);
}

template <class Element>
cudaError_t backward(const ScaledTanhBackwardParams& p, cudaStream_t stream) {
  return launch(backward_kernel<Element>, {dim3(unsigned(p.size.c)), dim3(kThreads), 0, stream}, p);
}

}  // namespace

cudaError_t scaled_tanh_cuda(const ScaledTanhParams& p, cudaStream_t stream) {
  if (p.size.n * p.size.c * p.size.h * p.size.w == 0) return cudaSuccess;
  return GCV_BY_DTYPE(p.dtype, forward, p, stream);
}

cudaError_t scaled_tanh_backward_cuda(const ScaledTanhBackwardParams& p, cudaStream_t stream) {
  if (p.size.c == 0) return cudaSuccess;
  return GCV_BY_DTYPE(p.dtype, backward, p, stream);
}

}  // namespace gcv
