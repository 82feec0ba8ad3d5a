// Forward: a thread for each result; neighbours write neighbours. Backward: a warp owns a tile of one plane
// in shared memory and takes the regions in their order, lanes side by side in a bin's window, so that there
// are no atomics and the sums are the same each time. Boxes: a block for each region, which sums in a fixed
// order.
#include "common/cuda.h"
#include "common/elements_cuda.h"
#include "roi/position_sensitive_cuda.h"

namespace gcv {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int kTileRows = 48, kTileColumns = 64;  // the map of a 600 x 1000 image at stride 16 is one tile

dim3 grid_for(int64_t blocks) {
  constexpr int64_t most = 2147483647;
  return dim3(unsigned(blocks < most ? blocks : most));
}

// Which bin and channel of the result one channel of the maps serves.
struct Place {
  int64_t c, i, j;
};

__device__ __forceinline__ Place place_of(const PsGeometry& g, int64_t channel) {
  return {channel / (g.bins_y * g.bins_x), channel / g.bins_x % g.bins_y, channel % g.bins_x};
}

template <class Element, class T>
__device__ T pooled(const PsForwardParams& p, const PsRegion<T>& region, const Element* plane,
                    const Place& place) {
  const PsRange rows = ps_bin_pixels(region.y.pixels, place.i);
  const PsRange columns = ps_bin_pixels(region.x.pixels, place.j);
  const int64_t area = (rows.end - rows.first) * (columns.end - columns.first);
  T sum = 0;
  for (int64_t y = rows.first; y < rows.end; ++y) {
    const Element* const row = plane + y * p.input_strides.d[2];
    for (int64_t x = columns.first; x < columns.end; ++x) sum += widen(row[x * p.input_strides.d[3]]);
  }
  return area == 0 ? T(0) : sum / T(area);
}

template <class Element, class T>
__device__ T sampled(const PsForwardParams& p, const PsRegion<T>& region, const Element* plane,
                     const Place& place) {
  const PsSamples<T>&ys = region.y.samples, &xs = region.x.samples;
  const PsBinSamples<T> y_bin = ps_bin_samples(ys, place.i), x_bin = ps_bin_samples(xs, place.j);
  const int64_t column_stride = p.input_strides.d[3];
  T sum = 0;
  for (int64_t m = 0; m < ys.looked; ++m) {
    const PsSample<T> y = ps_sample(ys, y_bin, m);
    if (!y.inside) continue;
    const Element* const upper = plane + y.before * p.input_strides.d[2];
    const Element* const lower = plane + y.after * p.input_strides.d[2];
    for (int64_t n = 0; n < xs.looked; ++n) {
      const PsSample<T> x = ps_sample(xs, x_bin, n);
      if (!x.inside) continue;
      const int64_t left = x.before * column_stride, right = x.after * column_stride;
      const T above = (T(1) - x.weight) * widen(upper[left]) + x.weight * widen(upper[right]);
      const T below = (T(1) - x.weight) * widen(lower[left]) + x.weight * widen(lower[right]);
      sum += (T(1) - y.weight) * above + y.weight * below;
    }
  }
  const T count = ys.grid * xs.grid;
  return count > 0 ? sum / count : T(0);
}

template <class Element>
__global__ void __launch_bounds__(kThreads) forward_kernel(PsForwardParams p) {
  using T = ComputeOf<Element>;
  const PsGeometry& g = p.geometry;
  const int64_t count = g.boxes.count * g.channels;
  for (int64_t at = int64_t(blockIdx.x) * kThreads + threadIdx.x; at < count;
       at += int64_t(gridDim.x) * kThreads) {
    const PsRegion<T> region = ps_region<T>(g, at / g.channels);
    const int64_t channel = at % g.channels;
    const Place place = place_of(g, channel);
    T result = T(NAN);
    if (region.sound) {
      const auto* const plane = static_cast<const Element*>(p.input) + region.image * p.input_strides.d[0] +
                                channel * p.input_strides.d[1];
      result = g.pool ? pooled(p, region, plane, place) : sampled(p, region, plane, place);
    }
    static_cast<Element*>(p.output)[at] = narrow<Element>(result);
  }
}

// Part of a plane that a warp owns.
struct Tile {
  int64_t image, channel;
  int rows, columns;
  int64_t first_row, first_column;
};

__device__ __forceinline__ Tile tile_of(const PsGeometry& g, int64_t item) {
  const int64_t across = ceil_div<int64_t>(g.width, kTileColumns),
                down = ceil_div<int64_t>(g.height, kTileRows);
  Tile t;
  t.first_column = item % across * kTileColumns;
  t.first_row = item / across % down * kTileRows;
  t.channel = item / (across * down) % g.channels;
  t.image = item / (across * down) / g.channels;
  t.columns = int(min(g.width - t.first_column, int64_t(kTileColumns)));
  t.rows = int(min(g.height - t.first_row, int64_t(kTileRows)));
  return t;
}

// The pixels between the first and the last that a bin reads along one axis, as far as [first, first + size)
// has them; counted from `first`.
template <class T>
__device__ PsRange window_of(const PsAxis<T>& axis, int64_t bin, int64_t first, int64_t size) {
  int64_t low, high;
  if (axis.pool) {
    const PsRange range = ps_bin_pixels(axis.pixels, bin);
    low = range.first;
    high = range.end;
  } else {
    low = axis.samples.size;
    high = 0;
    const PsBinSamples<T> samples = ps_bin_samples(axis.samples, bin);
    for (int64_t n = 0; n < axis.samples.looked; ++n) {
      const PsSample<T> sample = ps_sample(axis.samples, samples, n);
      if (!sample.inside) continue;
      low = min(low, sample.before);
      high = max(high, sample.after + 1);
    }
  }
  return {max(low - first, int64_t(0)), min(high - first, size)};
}

// With which weight a bin reads a pixel of its window; negative where it does not.
template <class T>
__device__ T weight_of(const PsAxis<T>& axis, int64_t bin, int64_t pixel) {
  if (axis.pool) return T(1);
  const PsBinSamples<T> samples = ps_bin_samples(axis.samples, bin);
  T weight = 0;
  bool read = false;
  for (int64_t n = 0; n < axis.samples.looked; ++n) {
    const PsSample<T> sample = ps_sample(axis.samples, samples, n);
    if (!sample.inside || (sample.before != pixel && sample.after != pixel)) continue;
    read = true;
    weight += sample.before == pixel ? T(1) - sample.weight : sample.weight;
  }
  return read ? weight : T(-1);
}

template <class T>
__device__ T count_of(const PsRegion<T>& region, const Place& place) {
  if (!region.y.pool) return region.y.samples.grid * region.x.samples.grid;
  const PsRange rows = ps_bin_pixels(region.y.pixels, place.i);
  const PsRange columns = ps_bin_pixels(region.x.pixels, place.j);
  return T((rows.end - rows.first) * (columns.end - columns.first));
}

// Adds one bin's gradient to the pixels of its window. A lane has the weights of one row and of one column.
template <class T>
__device__ void add_window(T* tile, const Tile& t, const PsRegion<T>& region, const Place& place, T grad,
                           const PsRange& rows, const PsRange& columns) {
  const int lane = int(threadIdx.x);
  for (int64_t row = rows.first; row < rows.end; row += kWarp) {
    const int height = int(min(rows.end - row, int64_t(kWarp)));
    const T row_weight = lane < height ? weight_of(region.y, place.i, t.first_row + row + lane) : T(-1);
    for (int64_t column = columns.first; column < columns.end; column += kWarp) {
      const int width = int(min(columns.end - column, int64_t(kWarp)));
      const T column_weight =
          lane < width ? weight_of(region.x, place.j, t.first_column + column + lane) : T(-1);
      for (int first = 0; first < height * width; first += kWarp) {
        const int cell = first + lane;
        const int y = min(cell / width, kWarp - 1), x = cell % width;
        const T down = __shfl_sync(kFullWarp, row_weight, y);
        const T across = __shfl_sync(kFullWarp, column_weight, x);
        if (cell < height * width && down >= 0 && across >= 0) {
          tile[(row + y) * kTileColumns + column + x] += grad * down * across;
        }
      }
    }
  }
  __syncwarp();
}

template <class Element, class T>
__device__ T grad_of(const PsBackwardParams& p, int64_t k, const Place& place) {
  const int64_t* const strides = p.grad_strides.d;
  return widen(static_cast<const Element*>(
      p.grad)[k * strides[0] + place.c * strides[1] + place.i * strides[2] + place.j * strides[3]]);
}

// Regions [first, first + kWarp): each lane looks whether one of them has pixels in the tile.
template <class Element, class T>
__device__ void add_regions(const PsBackwardParams& p, const Tile& t, const Place& place, int64_t first,
                            T* tile) {
  const PsGeometry& g = p.geometry;
  const int64_t own = first + threadIdx.x;
  PsRange rows{}, columns{};
  if (own < g.boxes.count) {
    const PsRegion<T> region = ps_region<T>(g, own);
    if (region.sound && region.image == t.image) {
      rows = window_of(region.y, place.i, t.first_row, t.rows);
      columns = window_of(region.x, place.j, t.first_column, t.columns);
    }
  }
  unsigned left = __ballot_sync(kFullWarp, rows.first < rows.end && columns.first < columns.end);
  while (left != 0) {
    const int source = __ffs(int(left)) - 1;
    left &= left - 1;
    const int64_t k = first + source;
    const PsRange its_rows{__shfl_sync(kFullWarp, rows.first, source),
                           __shfl_sync(kFullWarp, rows.end, source)};
    const PsRange its_columns{__shfl_sync(kFullWarp, columns.first, source),
                              __shfl_sync(kFullWarp, columns.end, source)};
    const PsRegion<T> region = ps_region<T>(g, k);
    const T grad = grad_of<Element, T>(p, k, place) / count_of(region, place);
    add_window(tile, t, region, place, grad, its_rows, its_columns);
  }
}

template <class Element>
__global__ void __launch_bounds__(kWarp) backward_kernel(PsBackwardParams p, int64_t items) {
  using T = ComputeOf<Element>;
  GCV_SHARED(T, tile, [kTileRows * kTileColumns]);
  const PsGeometry& g = p.geometry;
  const int lane = int(threadIdx.x);
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const Tile t = tile_of(g, item);
    for (int i = lane; i < t.rows * kTileColumns; i += kWarp) tile[i] = 0;
    __syncwarp();
    const Place place = place_of(g, t.channel);
    for (int64_t first = 0; first < g.boxes.count; first += kWarp) {
      add_regions<Element>(p, t, place, first, tile);
    }
    auto* const plane = static_cast<Element*>(p.grad_input) +
                        ((t.image * g.channels + t.channel) * g.height + t.first_row) * g.width +
                        t.first_column;
    for (int i = lane; i < t.rows * t.columns; i += kWarp) {
      const int y = i / t.columns, x = i % t.columns;
      plane[y * g.width + x] = narrow<Element>(tile[y * kTileColumns + x]);
    }
    __syncwarp();
  }
}

// Of x1, y1, x2, y2.
template <class T>
struct BoxSums {
  T d[4];
};

// Adds what one result has to say.
template <class Element, class T>
__device__ void add_slopes(const PsBoxesBackwardParams& p, const PsRegion<T>& region, const Place& place,
                           const Element* plane, T grad, BoxSums<T>& sums) {
  const PsGeometry& g = p.geometry;
  const PsSamples<T>&ys = region.y.samples, &xs = region.x.samples;
  const PsBinSamples<T> y_bin = ps_bin_samples(ys, place.i), x_bin = ps_bin_samples(xs, place.j);
  for (int64_t m = 0; m < ys.looked; ++m) {
    const PsSample<T> y = ps_sample(ys, y_bin, m);
    if (!y.inside) continue;
    const T y_share = ps_share(ys, y_bin, place.i, g.bins_y, m);
    for (int64_t n = 0; n < xs.looked; ++n) {
      const PsSample<T> x = ps_sample(xs, x_bin, n);
      if (!x.inside) continue;
      const T x_share = ps_share(xs, x_bin, place.j, g.bins_x, n);
      const PsSlopes<T> slopes = ps_slopes(plane, p.input_strides.d[2], p.input_strides.d[3], y, x);
      sums.d[0] += grad * slopes.along_x * (T(1) - x_share);
      sums.d[1] += grad * slopes.along_y * (T(1) - y_share);
      sums.d[2] += grad * slopes.along_x * x_share;
      sums.d[3] += grad * slopes.along_y * y_share;
    }
  }
}

// Leaves the sums over all threads in `parts[d][0]`.
template <class T>
__device__ void sum_threads(T (*parts)[kThreads]) {
  const int thread = int(threadIdx.x);
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) {
      for (int d = 0; d < 4; ++d) parts[d][thread] += parts[d][thread + half];
    }
  }
  __syncthreads();
}

template <class T>
__device__ void store_number(DType dtype, void* numbers, int64_t at, T x) {
  switch (dtype) {
    case DType::f64:
      static_cast<double*>(numbers)[at] = double(x);
      return;
    case DType::f16:
      static_cast<Half*>(numbers)[at] = narrow<Half>(float(x));
      return;
    case DType::bf16:
      static_cast<BFloat16*>(numbers)[at] = narrow<BFloat16>(float(x));
      return;
    default:
      static_cast<float*>(numbers)[at] = float(x);
  }
}

template <class Element>
__global__ void __launch_bounds__(kThreads) boxes_backward_kernel(PsBoxesBackwardParams p) {
  using T = ComputeOf<Element>;
  GCV_SHARED(T, parts, [4][kThreads]);
  const PsGeometry& g = p.geometry;
  const int64_t* const strides = p.grad_strides.d;
  const int thread = int(threadIdx.x);
  for (int64_t k = blockIdx.x; k < g.boxes.count; k += gridDim.x) {
    const PsRegion<T> region = ps_region<T>(g, k);
    BoxSums<T> sums{};
    for (int64_t channel = thread; channel < g.channels && region.sound; channel += kThreads) {
      const Place place = place_of(g, channel);
      const auto* const plane = static_cast<const Element*>(p.input) + region.image * p.input_strides.d[0] +
                                channel * p.input_strides.d[1];
      const T grad = widen(static_cast<const Element*>(
          p.grad)[k * strides[0] + place.c * strides[1] + place.i * strides[2] + place.j * strides[3]]);
      add_slopes(p, region, place, plane, grad, sums);
    }
    for (int d = 0; d < 4; ++d) parts[d][thread] = sums.d[d];
    sum_threads(parts);
    const T samples = region.y.samples.grid * region.x.samples.grid;
    const T factor = samples > 0 ? T(g.spatial_scale) / samples : T(0);
    if (thread < 5) {
      store_number(g.boxes.dtype, p.grad_boxes, 5 * k + thread,
                   thread == 0 ? T(0) : parts[thread - 1][0] * factor);
    }
    __syncthreads();
  }
}

}  // namespace

cudaError_t ps_forward_cuda(const PsForwardParams& p, cudaStream_t stream) {
  const int64_t count = p.geometry.boxes.count * p.geometry.channels;
  if (count == 0) return cudaSuccess;
  const LaunchConfig config{grid_for(ceil_div<int64_t>(count, kThreads)), dim3(kThreads), 0, stream};
  return with_element(p.geometry.dtype,
                      [&](auto e) { return launch(forward_kernel<decltype(e)>, config, p); });
}

cudaError_t ps_backward_cuda(const PsBackwardParams& p, cudaStream_t stream) {
  const PsGeometry& g = p.geometry;
  const int64_t items = g.images * g.channels * ceil_div<int64_t>(g.height, kTileRows) *
                        ceil_div<int64_t>(g.width, kTileColumns);
  if (items == 0) return cudaSuccess;
  const LaunchConfig config{grid_for(items), dim3(kWarp), 0, stream};
  return with_element(g.dtype,
                      [&](auto e) { return launch(backward_kernel<decltype(e)>, config, p, items); });
}

cudaError_t ps_boxes_backward_cuda(const PsBoxesBackwardParams& p, cudaStream_t stream) {
  const int64_t count = p.geometry.boxes.count;
  if (count == 0) return cudaSuccess;
  const LaunchConfig config{grid_for(count), dim3(kThreads), 0, stream};
  return with_element(p.geometry.dtype,
                      [&](auto e) { return launch(boxes_backward_kernel<decltype(e)>, config, p); });
}

}  // namespace gcv
