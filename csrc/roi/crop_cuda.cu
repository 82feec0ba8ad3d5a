// A thread works out where one pixel of a crop comes from, or one pixel of an image went, and serves several
// channels with that; neighbouring threads have neighbouring memory.
#include "common/elements_cuda.h"
#include "roi/crop_cuda.h"

namespace gcv {
namespace {

constexpr int kThreads = 256;
constexpr int kChannelsPerThread = 8;
// Numbers per channel travel with the launch, which has room for so many: no copy, and nothing to wait for.
constexpr int kMostNormalised = 64;

template <class T>
struct ChannelGroup {
  int64_t first, count;
  bool normalised;
  T mean[kMostNormalised], scale[kMostNormalised];
};

// Calls run(group) for groups that cover all channels.
template <class T, class Run>
cudaError_t for_channel_groups(int64_t channels, const double* mean, const double* std, Run run) {
  ChannelGroup<T> group{};
  group.normalised = mean || std;
  const int64_t most = group.normalised ? kMostNormalised : channels;
  for (group.first = 0; group.first < channels; group.first += most) {
    group.count = most < channels - group.first ? most : channels - group.first;
    for (int64_t c = 0; group.normalised && c < group.count; ++c) {
      group.mean[c] = mean ? T(mean[group.first + c]) : T(0);
      group.scale[c] = std ? T(1) / T(std[group.first + c]) : T(1);
    }
    if (cudaError_t error = run(group)) return error;
  }
  return cudaSuccess;
}

// How the threads of a launch share pixels and channels.
struct Share {
  int64_t maps, pixels;         // of one map
  int64_t channels, at_a_time;  // all of a group; of one thread
  bool channels_last;

  __host__ __device__ int64_t parts() const { return ceil_div(channels, at_a_time); }
  __host__ __device__ int64_t threads() const { return maps * parts() * pixels; }
};

template <class T>
Share share_of(const ChannelGroup<T>& group, bool channels_last, int64_t maps, int64_t pixels) {
  return {maps, pixels, group.count, channels_last ? 1 : kChannelsPerThread, channels_last};
}

struct Place {
  int64_t map, pixel, channel;  // the first of the group's channels that are the thread's
};

__device__ __forceinline__ Place place_of(const Share& s, int64_t thread) {
  if (s.channels_last)
    return {thread / s.channels / s.pixels, thread / s.channels % s.pixels, thread % s.channels};
  const int64_t rest = thread / s.pixels;
  return {rest / s.parts(), thread % s.pixels, rest % s.parts() * s.at_a_time};
}

__device__ __forceinline__ int64_t own_index() { return int64_t(blockIdx.x) * kThreads + threadIdx.x; }

dim3 blocks_for(int64_t threads) { return dim3(unsigned(ceil_div<int64_t>(threads, kThreads))); }

template <class Source, class T>
struct Corners {
  const Source *top_left, *top_right, *bottom_left, *bottom_right;
  T y, x;  // weights of bottom and right
};

template <class Source, class T>
__device__ __forceinline__ Corners<Source, T> corners_of(const CropMaps& images, int64_t image,
                                                         const CropSample<T>& y, const CropSample<T>& x) {
  const Source* base = static_cast<const Source*>(images.data) + image * images.strides[0];
  const Source *top = base + y.low * images.strides[2], *bottom = base + y.high * images.strides[2];
  const int64_t left = x.low * images.strides[3], right = x.high * images.strides[3];
  return {top + left, top + right, bottom + left, bottom + right, y.weight, x.weight};
}

template <class Source, class T>
__device__ __forceinline__ T value_at(const Corners<Source, T>& c, int64_t offset, bool nearest) {
  const T top_left = T(widen(c.top_left[offset]));
  if (nearest) return top_left;
  const T top = crop_lerp(top_left, T(widen(c.top_right[offset])), c.x);
  const T bottom = crop_lerp(T(widen(c.bottom_left[offset])), T(widen(c.bottom_right[offset])), c.x);
  return crop_lerp(top, bottom, c.y);
}

template <class Source, class Out, class T>
__global__ void __launch_bounds__(kThreads) forward_kernel(CropParams p, ChannelGroup<T> group, Share share) {
  const int64_t thread = own_index();
  if (thread >= share.threads()) return;
  const Place at = place_of(share, thread);
  const CropBox<T> box = read_crop_box<T>(p.boxes, at.map, p.images.number);
  CropSample<T> y{}, x{};
  if (box.sound) {
    y = crop_sample(crop_axis(box.y1, box.y2, p.height, p.images.height), at.pixel / p.width, p.nearest);
    x = crop_sample(crop_axis(box.x1, box.x2, p.width, p.images.width), at.pixel % p.width, p.nearest);
  }
  const bool inside = y.inside && x.inside;
  const auto corners = corners_of<Source>(p.images, inside ? box.image : 0, y, x);
  for (int64_t c = at.channel; c < at.channel + share.at_a_time && c < group.count; ++c) {
    const int64_t channel = group.first + c;
    T value = T(p.extrapolation_value);
    if (inside) value = value_at(corners, channel * p.images.strides[1], p.nearest);
    if (group.normalised) value = (value - group.mean[c]) * group.scale[c];
    if (!box.sound) value = T(NAN);
    const int64_t place = p.channels_last ? (at.map * share.pixels + at.pixel) * p.images.channels + channel
                                          : (at.map * p.images.channels + channel) * share.pixels + at.pixel;
    static_cast<Out*>(p.crops)[place] = narrow<Out>(ComputeOf<Out>(value));
  }
}

template <class Source, class Out, class T>
cudaError_t forward(const CropParams& p, cudaStream_t stream) {
  return for_channel_groups<T>(p.images.channels, p.mean, p.std, [&](const ChannelGroup<T>& group) {
    const Share share = share_of(group, p.channels_last, p.boxes.count, p.height * p.width);
    return launch(forward_kernel<Source, Out, T>, {blocks_for(share.threads()), dim3(kThreads), 0, stream}, p,
                  group, share);
  });
}

template <class Element>
cudaError_t forward_same(const CropParams& p, cudaStream_t stream) {
  return forward<Element, Element, ComputeOf<Element>>(p, stream);
}

// Samples [begin, end) of an axis: all that touch a pixel are among them.
struct Candidates {
  int64_t begin, end;
};

template <class T>
__device__ __forceinline__ Candidates candidates(const CropAxis<T>& a, int64_t pixel) {
  const T one = (T(pixel - 1) - a.start) / a.step, other = (T(pixel + 1) - a.start) / a.step;
  // Rounding moves a position by much less than the sample that is added at either end.
  const T first = (one < other ? one : other) - T(1), last = (one < other ? other : one) + T(2);
  // Infinite or NaN where all samples lie, or may lie, in one place.
  if (!(last - first < T(a.count))) return {0, a.count};
  if (last < T(0) || first > T(a.count)) return {0, 0};
  return {first > T(0) ? int64_t(first) : 0, last < T(a.count) ? int64_t(last) + 1 : a.count};
}

// What a sample passes on to a pixel.
template <class T>
__device__ __forceinline__ T weight_of(const CropSample<T>& s, int64_t pixel) {
  if (!s.inside) return T(0);
  return s.low == pixel ? T(1) - s.weight : s.high == pixel ? s.weight : T(0);
}

template <class Element>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(CropBackwardParams p, ChannelGroup<ComputeOf<Element>> group, Share share) {
  using T = ComputeOf<Element>;
  const int64_t thread = own_index();
  if (thread >= share.threads()) return;
  const Place at = place_of(share, thread);
  const int64_t row = at.pixel / p.width, column = at.pixel % p.width;
  T sums[kChannelsPerThread] = {};
  for (int64_t k = 0; k < p.boxes.count; ++k) {
    const CropBox<T> box = read_crop_box<T>(p.boxes, k, p.number);
    if (!box.sound || box.image != at.map) continue;
    const CropAxis<T> y_axis = crop_axis(box.y1, box.y2, p.crops.height, p.height);
    const Candidates rows = candidates(y_axis, row);
    if (rows.begin >= rows.end) continue;
    const CropAxis<T> x_axis = crop_axis(box.x1, box.x2, p.crops.width, p.width);
    const Candidates columns = candidates(x_axis, column);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const CropSample<T> y = crop_sample(y_axis, i, p.nearest);
      if (!y.inside || (y.low != row && y.high != row)) continue;
      for (int64_t j = columns.begin; j < columns.end; ++j) {
        const CropSample<T> x = crop_sample(x_axis, j, p.nearest);
        if (!x.inside || (x.low != column && x.high != column)) continue;
        const T weight = weight_of(y, row) * weight_of(x, column);
        const int64_t* s = p.crops.strides;
        const Element* grad = static_cast<const Element*>(p.crops.data) + k * s[0] + i * s[2] + j * s[3] +
                              (group.first + at.channel) * s[1];
#pragma unroll
        for (int c = 0; c < kChannelsPerThread; ++c) {
          if (c < share.at_a_time && at.channel + c < group.count) sums[c] += weight * widen(grad[c * s[1]]);
        }
      }
    }
  }
#pragma unroll
  for (int c = 0; c < kChannelsPerThread; ++c) {
    if (c >= share.at_a_time || at.channel + c >= group.count) continue;
    const int64_t channel = group.first + at.channel + c;
    const T sum = group.normalised ? sums[c] * group.scale[at.channel + c] : sums[c];
    const int64_t place = p.channels_last ? (at.map * share.pixels + at.pixel) * p.crops.channels + channel
                                          : (at.map * p.crops.channels + channel) * share.pixels + at.pixel;
    static_cast<Element*>(p.grad_images)[place] = narrow<Element>(sum);
  }
}

template <class Element>
cudaError_t backward(const CropBackwardParams& p, cudaStream_t stream) {
  using T = ComputeOf<Element>;
  return for_channel_groups<T>(p.crops.channels, nullptr, p.std, [&](const ChannelGroup<T>& group) {
    const Share share = share_of(group, p.channels_last, p.number, p.height * p.width);
    return launch(backward_kernel<Element>, {blocks_for(share.threads()), dim3(kThreads), 0, stream}, p,
                  group, share);
  });
}

// The gradient of the boxes: a block per box, whose threads add up in a fixed order.
template <class Source, class Element, class T>
struct BoxTerms {
  const CropBoxesBackwardParams& p;
  const ChannelGroup<T>& group;
  int64_t k;
  CropBox<T> box;
  CropAxis<T> y_axis, x_axis;

  // What number `index` of the crop's group of channels passes on to y1, x1, y2 and x2.
  __device__ __forceinline__ void add(int64_t index, double (&sums)[4]) const {
    const int64_t j = index % p.grad.width, i = index / p.grad.width % p.grad.height;
    const int64_t c = index / p.grad.width / p.grad.height, channel = group.first + c;
    const CropSample<T> y = crop_sample(y_axis, i, false), x = crop_sample(x_axis, j, false);
    if (!y.inside || !x.inside) return;
    const auto corners = corners_of<Source>(p.images, box.image, y, x);
    const int64_t at = channel * p.images.strides[1];
    const T top_left = T(widen(corners.top_left[at])), top_right = T(widen(corners.top_right[at]));
    const T bottom_left = T(widen(corners.bottom_left[at])),
            bottom_right = T(widen(corners.bottom_right[at]));
    const int64_t* s = p.grad.strides;
    T grad =
        T(widen(static_cast<const Element*>(p.grad.data)[k * s[0] + channel * s[1] + i * s[2] + j * s[3]]));
    if (group.normalised) grad *= group.scale[c];
    const T along_y = grad * crop_lerp(bottom_left - top_left, bottom_right - top_right, x.weight);
    const T along_x = grad * crop_lerp(top_right - top_left, bottom_right - bottom_left, y.weight);
    T y1, y2, x1, x2;
    crop_position_slopes(y_axis, i, y1, y2);
    crop_position_slopes(x_axis, j, x1, x2);
    sums[0] += double(along_y * y1);
    sums[1] += double(along_x * x1);
    sums[2] += double(along_y * y2);
    sums[3] += double(along_x * x2);
  }
};

template <class Element>
__device__ __forceinline__ void store_number(double x, void* to, int64_t at) {
  static_cast<Element*>(to)[at] = narrow<Element>(ComputeOf<Element>(x));
}

__device__ __forceinline__ void store_number(double x, DType dtype, void* to, int64_t at) {
  switch (dtype) {
    case DType::f64:
      return store_number<double>(x, to, at);
    case DType::f16:
      return store_number<Half>(x, to, at);
    case DType::bf16:
      return store_number<BFloat16>(x, to, at);
    default:
      return store_number<float>(x, to, at);
  }
}

template <class Source, class Element, class T>
__global__ void __launch_bounds__(kThreads)
    boxes_backward_kernel(CropBoxesBackwardParams p, ChannelGroup<T> group, double* carried) {
  GCV_SHARED(double, parts, [4][kThreads]);
  const int64_t k = blockIdx.x;
  const CropBox<T> box = read_crop_box<T>(p.boxes, k, p.images.number);
  double sums[4] = {};
  if (box.sound) {
    const BoxTerms<Source, Element, T> terms{p,
                                             group,
                                             k,
                                             box,
                                             crop_axis(box.y1, box.y2, p.grad.height, p.images.height),
                                             crop_axis(box.x1, box.x2, p.grad.width, p.images.width)};
    const int64_t numbers = group.count * p.grad.height * p.grad.width;
    for (int64_t index = threadIdx.x; index < numbers; index += kThreads) terms.add(index, sums);
  }
  for (int i = 0; i < 4; ++i) parts[i][threadIdx.x] = sums[i];
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (int(threadIdx.x) < half) {
      for (int i = 0; i < 4; ++i) parts[i][threadIdx.x] += parts[i][threadIdx.x + half];
    }
  }
  if (threadIdx.x > 0) return;
  const bool first = group.first == 0, last = group.first + group.count == p.images.channels;
  for (int i = 0; i < 4; ++i) {
    const double total = first ? parts[i][0] : carried[4 * k + i] + parts[i][0];
    if (last) {
      store_number(total, p.boxes.dtype, p.grad_boxes, 4 * k + i);
    } else {
      carried[4 * k + i] = total;
    }
  }
}

template <class Source, class Element, class T>
cudaError_t boxes_backward(const CropBoxesBackwardCudaParams& p, cudaStream_t stream) {
  const auto run = [&](const ChannelGroup<T>& group) {
    return launch(boxes_backward_kernel<Source, Element, T>,
                  {dim3(unsigned(p.plain.boxes.count)), dim3(kThreads), 0, stream}, p.plain, group, p.sums);
  };
  // Without channels the gradient is zero, and has yet to be written.
  if (p.plain.images.channels == 0) return run(ChannelGroup<T>{});
  return for_channel_groups<T>(p.plain.images.channels, nullptr, p.plain.std, run);
}

template <class Element>
cudaError_t boxes_backward_same(const CropBoxesBackwardCudaParams& p, cudaStream_t stream) {
  return boxes_backward<Element, Element, ComputeOf<Element>>(p, stream);
}

}  // namespace

cudaError_t crop_and_resize_cuda(const CropParams& p, cudaStream_t stream) {
  if (p.boxes.count == 0) return cudaSuccess;
  if (!p.bytes) return GCV_BY_DTYPE(p.dtype, forward_same, p, stream);
  return p.boxes.dtype == DType::f64 ? forward<Byte, float, double>(p, stream)
                                     : forward<Byte, float, float>(p, stream);
}

cudaError_t crop_and_resize_backward_cuda(const CropBackwardParams& p, cudaStream_t stream) {
  return p.number == 0 ? cudaSuccess : GCV_BY_DTYPE(p.dtype, backward, p, stream);
}

cudaError_t crop_and_resize_boxes_backward_cuda(const CropBoxesBackwardCudaParams& p, cudaStream_t stream) {
  if (p.plain.boxes.count == 0) return cudaSuccess;
  if (!p.plain.bytes) return GCV_BY_DTYPE(p.plain.dtype, boxes_backward_same, p, stream);
  return p.plain.boxes.dtype == DType::f64 ? boxes_backward<Byte, float, double>(p, stream)
                                           : boxes_backward<Byte, float, float>(p, stream);
}

}  // namespace gcv
