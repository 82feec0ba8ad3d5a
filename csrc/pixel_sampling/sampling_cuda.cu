// A block draws one image, all of its lines in one launch: images need nothing of each other, so no block
// ever waits for another one, and a step costs a few barriers of a block instead of a launch for each layer.
#include "common/elements_cuda.h"
#include "masked_conv/gate.h"
#include "mixture/mixture_pixel_cuda.h"
#include "pixel_sampling/sampling_cuda.h"

namespace gcv {
namespace {

constexpr int kThreads = 512;
constexpr int kLevels = 256;

enum class Taps { all, ahead, rest };

template <class T>
__device__ __forceinline__ T activated(SamplingActivation activation, T x) {
  switch (activation) {
    case SamplingActivation::relu:
      return x < 0 ? T(0) : x;  // NaN stays
    case SamplingActivation::elu:
      return elu_of(x);
    case SamplingActivation::tanh:
      return tanh_of(x);
    case SamplingActivation::sigmoid:
      return sigmoid(x);
    default:
      return x;
  }
}

// Channel c of `channels` that an activation makes of x: x[c], or of gate's two halves, or concat_elu's one.
template <class T>
__device__ __forceinline__ T activated(SamplingActivation activation, const T* x, int64_t c,
                                       int64_t channels) {
  if (activation == SamplingActivation::gate) return gate(x[c], x[channels + c]);
  if (activation != SamplingActivation::concat_elu) return activated(activation, x[c]);
  const int64_t half = channels / 2;
  return c < half ? elu_of(x[c]) : elu_of(-x[c - half]);
}

template <class T>
class Block {
 public:
  __device__ Block(const SamplingProgram& p, T* params, T* partial)
      : p_(p), image_(blockIdx.x), params_(params), partial_(partial) {}

  __device__ void draw_line(int64_t line) {
    line_ = line;
    whole_line(SamplingTier::line_start);
    for (int64_t n = 0; n < p_.instruction_count; ++n) {
      const SamplingInstruction& i = p_.instructions[n];
      if (i.kind == SamplingKind::convolution && i.keeps_sums && in_steps(i)) sums_of_line(i, Taps::ahead);
    }
    for (int64_t x = 0; x < p_.pixels; ++x) {
      for (int64_t step = 0; step < p_.steps; ++step) {
        execute(SamplingTier::pixel, x, step);
        draw(x, step);
        execute(SamplingTier::drawn, x, step);
      }
      if (params_ != nullptr) keep_params(x);
    }
    whole_line(SamplingTier::line_end);
    if (params_ != nullptr) params_ += p_.pixels * p_.images * channels(p_.values[p_.params]);
  }

 private:
  __device__ __forceinline__ SamplingTier tier_of(const SamplingInstruction& i) const {
    return p_.values[i.output].tier;
  }

  __device__ __forceinline__ bool in_steps(const SamplingInstruction& i) const {
    return tier_of(i) == SamplingTier::pixel || tier_of(i) == SamplingTier::drawn;
  }

  __device__ __forceinline__ int64_t channels(const SamplingValue& v) const { return v.starts[p_.steps]; }

  __device__ __forceinline__ T* row(const SamplingValue& v, int64_t line, int64_t x) const {
    return static_cast<T*>(v.data) + line % v.kept_lines * v.by_line + x * v.by_pixel + image_ * v.by_image;
  }

  __device__ __forceinline__ T* sums(const SamplingInstruction& i, int64_t x) const {
    return static_cast<T*>(p_.sums) + i.sums +
           ((i.keeps_sums ? x * p_.images : 0) + image_) * i.columns[p_.steps];
  }

  // What a column's taps add up to; of their channels, every `slices`-th from `slice`.
  __device__ T product(const SamplingInstruction& i, Taps which, int64_t x, int64_t step, int64_t column,
                       int64_t slice, int64_t slices) const {
    const SamplingValue& input = p_.values[i.inputs[0]];
    const int64_t all = i.columns[p_.steps], rows = channels(input);
    T sum = T(0);
    for (int64_t t = 0; t < i.tap_count; ++t) {
      const SamplingTap& tap = i.taps[t];
      const int64_t line = line_ + tap.line, pixel = x + tap.pixel;
      if (line < 0 || pixel < 0 || pixel >= p_.pixels) continue;
      if (which != Taps::all && sampling_is_ahead(p_, i, tap) != (which == Taps::ahead)) continue;
      const T* seen = row(input, line, pixel);
      const T* weight = static_cast<const T*>(i.weight) + t * rows * all + column;
      const int64_t limit = tap.limits[step];
#pragma unroll 4
      for (int64_t k = slice; k < limit; k += slices) sum += seen[k] * weight[k * all];
    }
    return sum;
  }

  __device__ static int64_t step_of(const SamplingInstruction& i, int64_t column) {
    int64_t step = 0;
    while (column >= i.columns[step + 1]) ++step;
    return step;
  }

  // A thread for each sum.
  __device__ void sums_of_line(const SamplingInstruction& i, Taps which) const {
    const int64_t columns = i.columns[p_.steps];
    for (int64_t n = threadIdx.x; n < p_.pixels * columns; n += kThreads) {
      const int64_t x = n / columns, column = n % columns;
      sums(i, x)[column] = product(i, which, x, step_of(i, column), column, 0, 1);
    }
    __syncthreads();
  }

  __device__ void finish_sums(const SamplingInstruction& i, int64_t x, int64_t column, T sum) const {
    if (i.bias != nullptr) sum += static_cast<const T*>(i.bias)[column];
    if (i.input_count > 1) sum += row(p_.values[i.inputs[1]], line_, x)[column];
    sums(i, x)[column] = sum;
  }

  // Threads share the channels that a column sees.
  __device__ void sums_of_pixel(const SamplingInstruction& i, int64_t x, int64_t step) const {
    const int64_t last = i.columns[step + 1];
    for (int64_t first = i.columns[step]; first < last; first += kThreads) {
      const int64_t columns = last - first < kThreads ? last - first : kThreads, slices = kThreads / columns;
      const int64_t column = threadIdx.x % columns, slice = threadIdx.x / columns;
      if (slice < slices)
        partial_[threadIdx.x] =
            product(i, i.keeps_sums ? Taps::rest : Taps::all, x, step, first + column, slice, slices);
      __syncthreads();
      if (threadIdx.x < columns) {
        T sum = i.keeps_sums ? sums(i, x)[first + column] : T(0);
        for (int64_t s = 0; s < slices; ++s) sum += partial_[s * columns + column];
        finish_sums(i, x, first + column, sum);
      }
      __syncthreads();
    }
  }

  __device__ void whole_line(SamplingTier tier) const {
    for (int64_t n = 0; n < p_.instruction_count; ++n) {
      const SamplingInstruction& i = p_.instructions[n];
      if (tier_of(i) != tier) continue;
      if (i.kind == SamplingKind::convolution) {
        sums_of_line(i, Taps::all);
        const int64_t columns = i.columns[p_.steps];
        for (int64_t at = threadIdx.x; at < p_.pixels * columns; at += kThreads)
          finish_sums(i, at / columns, at % columns, sums(i, at / columns)[at % columns]);
        __syncthreads();
      }
      const int64_t made = channels(p_.values[i.output]);
      for (int64_t at = threadIdx.x; at < p_.pixels * made; at += kThreads) make(i, at / made, at % made);
      __syncthreads();
    }
  }

  __device__ void execute(SamplingTier tier, int64_t x, int64_t step) const {
    for (int64_t n = 0; n < p_.instruction_count; ++n) {
      const SamplingInstruction& i = p_.instructions[n];
      const SamplingValue& output = p_.values[i.output];
      const int64_t first = output.starts[step], last = output.starts[step + 1];
      if (output.tier != tier || first == last) continue;
      if (i.kind == SamplingKind::convolution) sums_of_pixel(i, x, step);
      for (int64_t c = first + threadIdx.x; c < last; c += kThreads) make(i, x, c);
      __syncthreads();
    }
  }

  // Channel c of the output, by one thread.
  __device__ void make(const SamplingInstruction& i, int64_t x, int64_t c) const {
    const SamplingValue& output = p_.values[i.output];
    T* to = row(output, line_, x) + c;
    const auto from = [&](int64_t which) -> const T* { return row(p_.values[i.inputs[which]], line_, x); };
    switch (i.kind) {
      case SamplingKind::convolution:
      case SamplingKind::activation: {
        int64_t step = 0;
        while (c >= output.starts[step + 1]) ++step;
        const int64_t first = output.starts[step], made = output.starts[step + 1] - first;
        const T* x_of_step = i.kind == SamplingKind::convolution
                                 ? sums(i, x) + i.columns[step]
                                 : from(0) + p_.values[i.inputs[0]].starts[step];
        *to = activated(i.activation, x_of_step, c - first, made);
        break;
      }
      case SamplingKind::add:
        *to = from(0)[c] + from(1)[c];
        break;
      case SamplingKind::multiply:
        *to = from(0)[c] * from(1)[c];
        break;
      case SamplingKind::copy:
        *to = from(i.sources[2 * c])[i.sources[2 * c + 1]];
        break;
    }
  }

  __device__ void keep_params(int64_t x) const {
    const SamplingValue& v = p_.values[p_.params];
    for (int64_t c = threadIdx.x; c < channels(v); c += kThreads)
      params_[(x * p_.images + image_) * channels(v) + c] = row(v, line_, x)[c];
    __syncthreads();
  }

  __device__ __forceinline__ int64_t place(int64_t channels, int64_t channel, int64_t x) const {
    return ((image_ * channels + channel) * p_.lines + line_) * p_.pixels + x;
  }

  // The first warp draws.
  __device__ void draw(int64_t x, int64_t step) const {
    if (threadIdx.x < 32) {
      const int64_t first = p_.steps == 1 ? 0 : step, last = p_.steps == 1 ? p_.colours : step + 1;
      uint8_t mixed[3] = {};
      if (p_.head == SamplingHead::mixture) draw_mixture(x, mixed);
      for (int64_t c = first; c < last; ++c) {
        const uint8_t drawn = p_.head == SamplingHead::mixture ? mixed[c] : level(x, c);
        if (threadIdx.x == 0) set(x, c, drawn);
      }
    }
    __syncthreads();
  }

  __device__ void set(int64_t x, int64_t colour, uint8_t drawn) const {
    const int64_t at = place(p_.colours, colour, x);
    if (!p_.given[at]) p_.levels[at] = drawn;
    const T now = T(p_.levels[at]);
    row(p_.values[p_.image], line_, x)[colour] =
        p_.head == SamplingHead::bernoulli ? now : mixture_value(now);
  }

  __device__ uint8_t level(int64_t x, int64_t colour) const {
    const T* params = row(p_.values[p_.params], line_, x);
    const T noise = T(p_.noise[place(p_.numbers, colour, x)]);
    if (p_.head == SamplingHead::softmax) return softmax_level(params + colour * kLevels, noise);
    return noise < sigmoid(params[colour] / T(p_.temperature));
  }

  // Lanes share everything but the sums, whose order decides.
  __device__ uint8_t softmax_level(const T* logits, T noise) const {
    const int lane = int(threadIdx.x);
    T most = logits[0];
    for (int k = lane; k < kLevels; k += 32) most = logits[k] > most ? logits[k] : most;
    for (int distance = 16; distance > 0; distance /= 2) {
      const T other = __shfl_xor_sync(kFullWarp, most, distance);
      most = other > most ? other : most;
    }
    for (int k = lane; k < kLevels; k += 32)
      partial_[k] = exponential((logits[k] - most) / T(p_.temperature));
    __syncwarp();
    if (lane == 0) {
      for (int k = 1; k < kLevels; ++k) partial_[k] += partial_[k - 1];
    }
    __syncwarp();
    const T target = noise * partial_[kLevels - 1];
    int chosen = 0;
    for (int k = lane; k + 1 < kLevels; k += 32) chosen += partial_[k] <= target ? 1 : 0;
    for (int distance = 16; distance > 0; distance /= 2)
      chosen += __shfl_xor_sync(kFullWarp, chosen, distance);
    __syncwarp();  // before another colour's weights
    return uint8_t(chosen);
  }

  // The pixel as the only one of an image, for which the room of mixtures has its function.
  __device__ void draw_mixture(int64_t x, uint8_t (&levels)[3]) const {
    const SamplingValue& params = p_.values[p_.params];
    MixtureSampleParams m{};
    m.maps = {{row(params, line_, x), {0, 1, 0, 0}}, 1, 1, 1, p_.mixtures, p_.colours, p_.dtype};
    m.noise = {p_.noise + place(p_.numbers, 0, x), {0, p_.lines * p_.pixels, 0, 0}};
    m.temperature = p_.temperature;
    m.levels = levels;
    mixture_draw<T>(m, MixturePixel{0, 0, 0});
  }

  const SamplingProgram& p_;
  const int64_t image_;
  int64_t line_ = 0;
  T* params_;
  T* const partial_;
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    sampling_kernel(SamplingProgram p, int64_t first, int64_t count, void* params) {
  GCV_SHARED(T, partial, [kThreads]);
  Block<T> block(p, static_cast<T*>(params), partial);
  for (int64_t line = first; line < first + count; ++line) block.draw_line(line);
}

}  // namespace

cudaError_t pixel_sampling_cuda(const SamplingProgram& p, int64_t first, int64_t count, void* params,
                                cudaStream_t stream) {
  if (p.images == 0 || count == 0) return cudaSuccess;
  const LaunchConfig config{dim3(unsigned(p.images)), dim3(kThreads), 0, stream};
  return p.dtype == DType::f64 ? launch(sampling_kernel<double>, config, p, first, count, params)
                               : launch(sampling_kernel<float>, config, p, first, count, params);
}

}  // namespace gcv
