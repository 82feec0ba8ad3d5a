// A thread takes one number of the gate's output; neighbours take neighbours in memory.
#include "common/cuda.h"
#include "masked_conv/masked_conv_cuda.h"

namespace gcv {
namespace {

constexpr int kThreads = 256;

__host__ __device__ __forceinline__ int64_t number_count(const GateParams& p) {
  return p.images * p.channels * p.height * p.width;
}

struct Place {
  int64_t n, c, y, x;
};

__device__ __forceinline__ Place place_at(const GateParams& p, int64_t i) {
  if (p.sums.strides[1] == 1) {
    const int64_t pixel = i / p.channels;
    return {pixel / p.width / p.height, i % p.channels, pixel / p.width % p.height, pixel % p.width};
  }
  const int64_t plane = i / p.width / p.height;
  return {plane / p.channels, plane % p.channels, i / p.width % p.height, i % p.width};
}

__device__ __forceinline__ int64_t offset_of(const ConvMaps& maps, const Place& at) {
  return at.n * maps.strides[0] + at.c * maps.strides[1] + at.y * maps.strides[2] + at.x * maps.strides[3];
}

// Of one half: the sum, and the condition where there is one.
template <class Element>
__device__ __forceinline__ typename Compute<Element>::type sum_at(const GateParams& p, Place at,
                                                                  int64_t half) {
  at.c += half * p.channels;
  const auto sum = widen(static_cast<const Element*>(p.sums.data)[offset_of(p.sums, at)]);
  if (p.condition.data == nullptr) return sum;
  return sum + widen(static_cast<const Element*>(p.condition.data)[offset_of(p.condition, at)]);
}

template <class Element, bool kBackward>
__global__ void __launch_bounds__(kThreads) gate_kernel(GateParams p) {
  using T = typename Compute<Element>::type;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= number_count(p)) return;
  const Place at = place_at(p, i);
  const T a = sum_at<Element>(p, at, 0), b = sum_at<Element>(p, at, 1);
  if constexpr (kBackward) {
    T grad_a, grad_b;
    gate_backward(widen(static_cast<const Element*>(p.grad.data)[offset_of(p.grad, at)]), a, b, grad_a,
                  grad_b);
    auto* to = static_cast<Element*>(p.grad_sums.data) + offset_of(p.grad_sums, at);
    narrow(grad_a, *to);
    narrow(grad_b, to[p.channels * p.grad_sums.strides[1]]);
  } else {
    narrow(gate(a, b), static_cast<Element*>(p.output.data)[offset_of(p.output, at)]);
  }
}

template <class Element, bool kBackward>
cudaError_t run(const GateParams& p, cudaStream_t stream) {
  if (number_count(p) == 0) return cudaSuccess;
  const auto blocks = unsigned((number_count(p) + kThreads - 1) / kThreads);
  return launch(gate_kernel<Element, kBackward>, {dim3(blocks), dim3(kThreads), 0, stream}, p);
}

template <class Element>
cudaError_t forward(const GateParams& p, cudaStream_t stream) {
  return run<Element, false>(p, stream);
}

template <class Element>
cudaError_t backward(const GateParams& p, cudaStream_t stream) {
  return run<Element, true>(p, stream);
}

}  // namespace

cudaError_t gate_cuda(const GateParams& p, cudaStream_t stream) {
  return GCV_BY_DTYPE(p.dtype, forward, p, stream);
}

cudaError_t gate_backward_cuda(const GateParams& p, cudaStream_t stream) {
  return GCV_BY_DTYPE(p.dtype, backward, p, stream);
}

}  // namespace gcv
