// A block sums a tile of 64 pixels by 64 channels of one block of colours, over the taps and channels that
// these see and no others.
#include "common/cuda.h"
#include "masked_conv/gate.h"
#include "masked_conv/masked_conv_cuda.h"
#include "masked_conv/tile_product_cuda.h"

namespace gcv {
namespace {

__host__ __device__ __forceinline__ int64_t divided_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

__host__ __device__ __forceinline__ int64_t pixel_count(const MaskedConvParams& p) {
  return p.images * p.height * p.width;
}

struct Pixel {
  int64_t n, y, x;
  bool exists;
};

__device__ __forceinline__ Pixel pixel_at(const MaskedConvParams& p, int64_t index) {
  return {index / p.width / p.height, index / p.width % p.height, index % p.width, index < pixel_count(p)};
}

__device__ __forceinline__ Pixel moved(const MaskedConvParams& p, const Pixel& pixel, int64_t dy,
                                       int64_t dx) {
  const int64_t y = pixel.y + dy, x = pixel.x + dx;
  return {pixel.n, y, x, pixel.exists && y >= 0 && y < p.height && x >= 0 && x < p.width};
}

__device__ __forceinline__ int64_t offset_of(const ConvMaps& maps, const Pixel& pixel) {
  return pixel.n * maps.strides[0] + pixel.y * maps.strides[2] + pixel.x * maps.strides[3];
}

// Where a pixel lies in the maps; elsewhere is zero.
constexpr int64_t kNowhere = -1;

__device__ __forceinline__ int64_t place_of(const ConvMaps& maps, const Pixel& pixel, bool exists) {
  return exists ? offset_of(maps, pixel) : kNowhere;
}

template <class Element>
__device__ __forceinline__ Element element_of(const ConvMaps& maps, int64_t offset) {
  return static_cast<const Element*>(maps.data)[offset];
}

struct Tap {
  int64_t place, dy, dx;
  TapRule rule;
};

__device__ __forceinline__ Tap tap_at(const MaskedConvParams& p, int64_t index) {
  const uint32_t packed = p.seen.packed[index];
  const int64_t place = packed / 4;
  return {place, tap_row(p.mask, place), tap_column(p.mask, place), TapRule(packed % 4)};
}

__device__ __forceinline__ int64_t weight_offset(const MaskedConvParams& p, int64_t place) {
  return place / p.mask.kernel_width * p.weight_strides[2] +
         place % p.mask.kernel_width * p.weight_strides[3];
}

// The convolution itself: a block of colours of the output, and the input that it sees.
struct Forward {
  static __host__ __device__ int64_t blocks(const MaskedConvParams& p) {
    return p.mask.colours * p.mask.halves;
  }
  static __host__ __device__ int64_t channels(const MaskedConvParams& p) { return p.out_channels; }
  static __device__ const ConvMaps& from(const MaskedConvParams& p) { return p.input; }
  static __device__ int sign() { return 1; }
  static __device__ int64_t channel_stride(const MaskedConvParams& p) { return p.weight_strides[0]; }
  static __device__ int64_t depth_stride(const MaskedConvParams& p) { return p.weight_strides[1]; }
  static __device__ int64_t ranges(const MaskedConvParams&) { return 1; }
  static __device__ ChannelRange range(const MaskedConvParams& p, TapRule rule, int64_t block, int64_t) {
    return {0, seen_channels(rule, block % p.mask.colours, p.mask.colours, p.in_channels)};
  }
};

// The gradient of the input: a colour of the input, and in each half the output that sees it.
struct Transposed {
  static __host__ __device__ int64_t blocks(const MaskedConvParams& p) { return p.mask.colours; }
  static __host__ __device__ int64_t channels(const MaskedConvParams& p) { return p.in_channels; }
  static __device__ const ConvMaps& from(const MaskedConvParams& p) { return p.grad; }
  static __device__ int sign() { return -1; }
  static __device__ int64_t channel_stride(const MaskedConvParams& p) { return p.weight_strides[1]; }
  static __device__ int64_t depth_stride(const MaskedConvParams& p) { return p.weight_strides[0]; }
  static __device__ int64_t ranges(const MaskedConvParams& p) { return p.mask.halves; }
  static __device__ ChannelRange range(const MaskedConvParams& p, TapRule rule, int64_t colour,
                                       int64_t half) {
    const int64_t size = p.out_channels / p.mask.halves, block = size / p.mask.colours;
    const int64_t hidden = rule == TapRule::all               ? 0
                           : rule == TapRule::earlier_colours ? (colour + 1) * block
                                                              : colour * block;
    return {half * size + hidden, (half + 1) * size};
  }
};

// What a block of threads writes: pixels from `pixel` on, channels [first, last).
struct OwnTile {
  int64_t pixel, block, first, last;
};

template <class Walk>
__host__ __device__ int64_t tiles_of_channels(const MaskedConvParams& p, bool gate) {
  return Walk::blocks(p) / (gate ? 2 : 1) * divided_up(Walk::channels(p) / Walk::blocks(p), kTile);
}

template <class Walk>
__device__ __forceinline__ OwnTile own_tile(const MaskedConvParams& p, bool gate) {
  const int64_t size = Walk::channels(p) / Walk::blocks(p), in_block = divided_up(size, kTile);
  const int64_t tiles = tiles_of_channels<Walk>(p, gate), tile = int64_t(blockIdx.x) % tiles;
  const int64_t block = tile / in_block, first = block * size + tile % in_block * kTile;
  const int64_t last = first + kTile < (block + 1) * size ? first + kTile : (block + 1) * size;
  return {int64_t(blockIdx.x) / tiles * kTile, block, first, last};
}

template <class Walk, class Element, bool kGate>
__device__ __forceinline__ void sum_tile(const MaskedConvParams& p, const OwnTile& own,
                                         typename Compute<Element>::type (&sums)[kOwnSums],
                                         typename Compute<Element>::type (&gates)[kOwnSums]) {
  using Product = TileProduct<Element>;
  using Stored = typename Product::Stored;
  GCV_SHARED(Stored, left, [Product::kStored]);
  GCV_SHARED(Stored, right, [Product::kStored]);
  GCV_SHARED(Stored, gating, [kGate ? Product::kStored : 1]);
  GCV_SHARED(int64_t, places, [kTile]);
  const ConvMaps& from = Walk::from(p);
  const auto* weight = static_cast<const Element*>(p.weight);
  const int64_t half = p.out_channels / 2 * Walk::channel_stride(p);
  const bool pixels_first = from.strides[1] != 1,
             channels_first = Walk::depth_stride(p) > Walk::channel_stride(p);
  const Pixel pixel = pixel_at(p, own.pixel + threadIdx.x % kTile);
  for (int64_t index = 0; index < p.seen.count; ++index) {
    const Tap tap = tap_at(p, index);
    const Element* tap_weight = weight + weight_offset(p, tap.place) + own.first * Walk::channel_stride(p);
    __syncthreads();
    if (threadIdx.x < kTile) {
      const Pixel there = moved(p, pixel, Walk::sign() * tap.dy, Walk::sign() * tap.dx);
      places[threadIdx.x] = place_of(from, there, there.exists);
    }
    for (int64_t part = 0; part < Walk::ranges(p); ++part) {
      const ChannelRange seen = Walk::range(p, tap.rule, own.block, part);
      for (int64_t begin = seen.begin; begin < seen.end; begin += Product::kDepth) {
        __syncthreads();
        fill_tile<Product>(left, pixels_first, [&](int side, int depth) {
          const int64_t at = places[side];
          return at != kNowhere && begin + depth < seen.end
                     ? element_of<Element>(from, at + (begin + depth) * from.strides[1])
                     : Element{};
        });
        const auto weight_at = [&](int side, int depth, int64_t further) {
          const bool inside = own.first + side < own.last && begin + depth < seen.end;
          const int64_t at =
              side * Walk::channel_stride(p) + (begin + depth) * Walk::depth_stride(p) + further;
          return inside ? tap_weight[at] : Element{};
        };
        fill_tile<Product>(right, channels_first,
                           [&](int side, int depth) { return weight_at(side, depth, 0); });
        if constexpr (kGate) {
          fill_tile<Product>(gating, channels_first,
                             [&](int side, int depth) { return weight_at(side, depth, half); });
        }
        __syncthreads();
        Product::multiply(left, right, sums);
        if constexpr (kGate) Product::multiply(left, gating, gates);
      }
    }
  }
}

template <class Element>
__device__ __forceinline__ typename Compute<Element>::type addend(const MaskedConvParams& p,
                                                                  const Pixel& pixel, int64_t channel) {
  typename Compute<Element>::type sum = 0;
  if (p.bias != nullptr) sum += widen(static_cast<const Element*>(p.bias)[channel]);
  if (p.condition.data == nullptr) return sum;
  const int64_t at = offset_of(p.condition, pixel) + channel * p.condition.strides[1];
  return sum + widen(element_of<Element>(p.condition, at));
}

template <class T>
__device__ __forceinline__ T activated(ConvEpilogue epilogue, T x) {
  if (epilogue == ConvEpilogue::relu) return x < 0 ? T(0) : x;
  return epilogue == ConvEpilogue::none ? x : elu_of(x);
}

template <class Walk, class Element, bool kGate>
__global__ void __launch_bounds__(kTileThreads) conv_kernel(MaskedConvParams p) {
  using T = typename Compute<Element>::type;
  using Product = TileProduct<Element>;
  const OwnTile own = own_tile<Walk>(p, kGate);
  T sums[kOwnSums] = {}, gates[kOwnSums] = {};
  sum_tile<Walk, Element, kGate>(p, own, sums, gates);
  auto* output = static_cast<Element*>(p.output.data);
#pragma unroll
  for (int i = 0; i < kOwnSums; ++i) {
    const Pixel pixel = pixel_at(p, own.pixel + Product::row_of(i));
    const int64_t channel = own.first + Product::column_of(i);
    if (!pixel.exists || channel >= own.last) continue;
    const T sum = sums[i] + addend<Element>(p, pixel, channel);
    Element* to = output + offset_of(p.output, pixel) + channel * p.output.strides[1];
    if constexpr (kGate) {
      narrow(gate(sum, gates[i] + addend<Element>(p, pixel, channel + p.out_channels / 2)), *to);
    } else {
      narrow(activated(p.epilogue, sum), *to);
      if (p.epilogue == ConvEpilogue::concat_elu)
        narrow(elu_of(-sum), to[p.out_channels * p.output.strides[1]]);
    }
  }
}

template <class Walk, class Element, bool kGate>
cudaError_t launch_conv(const MaskedConvParams& p, cudaStream_t stream) {
  const int64_t blocks = divided_up(pixel_count(p), kTile) * tiles_of_channels<Walk>(p, kGate);
  if (blocks == 0) return cudaSuccess;
  return launch(conv_kernel<Walk, Element, kGate>, {dim3(unsigned(blocks)), dim3(kTileThreads), 0, stream},
                p);
}

template <class Element>
cudaError_t forward(const MaskedConvParams& p, cudaStream_t stream) {
  return p.epilogue == ConvEpilogue::gate ? launch_conv<Forward, Element, true>(p, stream)
                                          : launch_conv<Forward, Element, false>(p, stream);
}

template <class Element>
cudaError_t grad_input(MaskedConvParams p, cudaStream_t stream) {
  p.epilogue = ConvEpilogue::none;
  p.bias = p.condition.data = nullptr;
  return launch_conv<Transposed, Element, false>(p, stream);
}

}  // namespace

cudaError_t masked_conv_cuda(const MaskedConvParams& p, cudaStream_t stream) {
  return GCV_BY_DTYPE(p.dtype, forward, p, stream);
}

cudaError_t masked_conv_grad_input_cuda(const MaskedConvParams& p, cudaStream_t stream) {
  return GCV_BY_DTYPE(p.dtype, grad_input, p, stream);
}

namespace {

// Enough blocks of threads to keep a GPU busy.
constexpr int64_t kManyBlocks = 512;

int64_t block_size(const MaskedConvParams& p) { return p.out_channels / (p.mask.colours * p.mask.halves); }

// Of a tap: blocks of colours, tiles of one, tiles of the input's channels.
int64_t weight_tiles(const MaskedConvParams& p) {
  return p.mask.colours * p.mask.halves * divided_up(block_size(p), kTile) * divided_up(p.in_channels, kTile);
}

// Into how many parts the pixels are cut, whose sums are added in their order.
int64_t parts_of(const MaskedConvParams& p) {
  const int64_t tiles = weight_tiles(p) * p.seen.count, most = divided_up(pixel_count(p), 8 * kTile);
  const int64_t wanted = tiles == 0 ? 1 : divided_up(kManyBlocks, tiles);
  return wanted < most ? wanted : most < 1 ? 1 : most;
}

// partial[part][tap][out][in] of what is seen; the rest is not written.
template <class Element>
__global__ void __launch_bounds__(kTileThreads)
    grad_weight_kernel(MaskedConvParams p, typename Compute<Element>::type* partial, int64_t parts) {
  using T = typename Compute<Element>::type;
  using Product = TileProduct<Element>;
  using Stored = typename Product::Stored;
  GCV_SHARED(Stored, left, [Product::kStored]);
  GCV_SHARED(Stored, right, [Product::kStored]);
  GCV_SHARED(int64_t, grad_places, [Product::kDepth]);
  GCV_SHARED(int64_t, input_places, [Product::kDepth]);
  const int64_t size = p.out_channels / (p.mask.colours * p.mask.halves);
  const int64_t out_tiles = divided_up(size, kTile), in_tiles = divided_up(p.in_channels, kTile);
  int64_t rest = blockIdx.x;
  const int64_t first_in = rest % in_tiles * kTile;
  rest /= in_tiles;
  const int64_t in_block = rest % out_tiles * kTile;
  rest /= out_tiles;
  const int64_t block = rest % (p.mask.colours * p.mask.halves);
  rest /= p.mask.colours * p.mask.halves;
  const int64_t index = rest % p.seen.count, part = rest / p.seen.count;
  const Tap tap = tap_at(p, index);
  const int64_t first_out = block * size + in_block, last_out = (block + 1) * size;
  const int64_t last_in = seen_channels(tap.rule, block % p.mask.colours, p.mask.colours, p.in_channels);
  if (first_in >= last_in) return;
  const int64_t of_part = divided_up(divided_up(pixel_count(p), parts), Product::kDepth) * Product::kDepth;
  const int64_t limit = (part + 1) * of_part, end = limit < pixel_count(p) ? limit : pixel_count(p);
  T sums[kOwnSums] = {};
  for (int64_t begin = part * of_part; begin < end; begin += Product::kDepth) {
    __syncthreads();
    if (threadIdx.x < Product::kDepth) {
      const Pixel pixel = pixel_at(p, begin + threadIdx.x), there = moved(p, pixel, tap.dy, tap.dx);
      grad_places[threadIdx.x] = place_of(p.grad, pixel, there.exists);
      input_places[threadIdx.x] = place_of(p.input, there, there.exists);
    }
    __syncthreads();
    fill_tile<Product>(left, p.grad.strides[1] == 1, [&](int side, int depth) {
      const int64_t at = grad_places[depth];
      return at != kNowhere && first_out + side < last_out
                 ? element_of<Element>(p.grad, at + (first_out + side) * p.grad.strides[1])
                 : Element{};
    });
    fill_tile<Product>(right, p.input.strides[1] == 1, [&](int side, int depth) {
      const int64_t at = input_places[depth];
      return at != kNowhere && first_in + side < last_in
                 ? element_of<Element>(p.input, at + (first_in + side) * p.input.strides[1])
                 : Element{};
    });
    __syncthreads();
    Product::multiply(left, right, sums);
  }
#pragma unroll
  for (int i = 0; i < kOwnSums; ++i) {
    const int64_t out = first_out + Product::row_of(i), in = first_in + Product::column_of(i);
    if (out < last_out && in < last_in)
      partial[((part * p.seen.count + index) * p.out_channels + out) * p.in_channels + in] = sums[i];
  }
}

// A thread adds up one pair of channels. What is hidden is zero.
template <class Element>
__global__ void __launch_bounds__(kTileThreads)
    add_parts_kernel(MaskedConvParams p, const typename Compute<Element>::type* partial, int64_t parts) {
  const int64_t pairs = p.out_channels * p.in_channels,
                pair = int64_t(blockIdx.x) * kTileThreads + threadIdx.x;
  if (pair >= pairs) return;
  const int64_t out = pair / p.in_channels, in = pair % p.in_channels;
  const int64_t colour = out / (p.out_channels / (p.mask.colours * p.mask.halves)) % p.mask.colours;
  const int64_t places = p.mask.kernel_height * p.mask.kernel_width;
  auto* to = static_cast<Element*>(p.output.data) + pair * places;
  for (int64_t place = 0; place < places; ++place) to[place] = Element{};
  for (int64_t index = 0; index < p.seen.count; ++index) {
    const Tap tap = tap_at(p, index);
    if (in >= seen_channels(tap.rule, colour, p.mask.colours, p.in_channels)) continue;
    typename Compute<Element>::type sum = 0;
    for (int64_t part = 0; part < parts; ++part) sum += partial[(part * p.seen.count + index) * pairs + pair];
    narrow(sum, to[tap.place]);
  }
}

template <class Element>
cudaError_t grad_weight(const MaskedConvParams& p, void* workspace, cudaStream_t stream) {
  using T = typename Compute<Element>::type;
  const int64_t parts = parts_of(p), blocks = parts * p.seen.count * weight_tiles(p);
  auto* partial = static_cast<T*>(workspace);
  if (blocks > 0) {
    const LaunchConfig config{dim3(unsigned(blocks)), dim3(kTileThreads), 0, stream};
    if (cudaError_t error = launch(grad_weight_kernel<Element>, config, p, partial, parts)) return error;
  }
  const int64_t pairs = p.out_channels * p.in_channels;
  if (pairs == 0) return cudaSuccess;
  const LaunchConfig config{dim3(unsigned(divided_up(pairs, kTileThreads))), dim3(kTileThreads), 0, stream};
  return launch(add_parts_kernel<Element>, config, p, static_cast<const T*>(partial), parts);
}

}  // namespace

size_t masked_conv_grad_weight_bytes(const MaskedConvParams& p) {
  const size_t number = p.dtype == DType::f64 ? sizeof(double) : sizeof(float);
  return size_t(parts_of(p) * p.seen.count * p.out_channels * p.in_channels) * number;
}

cudaError_t masked_conv_grad_weight_cuda(const MaskedConvParams& p, void* workspace, cudaStream_t stream) {
  return GCV_BY_DTYPE(p.dtype, grad_weight, p, workspace, stream);
}

}  // namespace gcv
