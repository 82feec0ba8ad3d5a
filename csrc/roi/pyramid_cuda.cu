// One thread for each feature; for gradients one for each cell of the maps, which gathers from all bins that
// take it, in their order: no atomics, so the same bits every time.
#include "common/elements_cuda.h"
#include "roi/pyramid_cuda.h"

namespace gcv {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ int64_t own_index() { return int64_t(blockIdx.x) * kThreads + threadIdx.x; }

// A bin of one region and channel, by its place among the features.
struct Feature {
  RegionCells region;
  int64_t channel;
  CellSpan y, x;
};

template <class T>
__device__ __forceinline__ Feature feature_at(const Pyramid& p, int64_t index) {
  const int64_t features = pyramid_features(p), k = index / features;
  int64_t rest = index - k * features;
  Feature f;
  f.region = region_cells<T>(p, k);
  int level = 0;
  while (rest >= p.channels * p.levels[level] * p.levels[level]) {
    rest -= p.channels * p.levels[level] * p.levels[level];
    ++level;
  }
  const int64_t bins = p.levels[level], bin = rest % (bins * bins);
  f.channel = rest / (bins * bins);
  f.y = bin_cells(p.paper, cell_count(f.region.y), bins, bin / bins);
  f.x = bin_cells(p.paper, cell_count(f.region.x), bins, bin % bins);
  f.y = {f.region.y.begin + f.y.begin, f.region.y.begin + f.y.end};
  f.x = {f.region.x.begin + f.x.begin, f.region.x.begin + f.x.end};
  return f;
}

template <class Element>
__device__ __forceinline__ const Element* plane_of(const PlanesIn& planes, int64_t image, int64_t channel) {
  return static_cast<const Element*>(planes.data) + image * planes.strides[0] + channel * planes.strides[1];
}

template <class Element>
__device__ __forceinline__ ComputeOf<Element> cell(const Element* plane, const PlanesIn& planes, int64_t y,
                                                   int64_t x) {
  return widen(plane[y * planes.strides[2] + x * planes.strides[3]]);
}

template <class Element>
__device__ __forceinline__ ComputeOf<Element> average_of(const PlanesIn& input, const Feature& f) {
  const Element* plane = plane_of<Element>(input, f.region.image, f.channel);
  ComputeOf<Element> sum = 0;
  for (int64_t y = f.y.begin; y < f.y.end; ++y) {
    for (int64_t x = f.x.begin; x < f.x.end; ++x) sum += cell(plane, input, y, x);
  }
  return sum / ComputeOf<Element>(cell_count(f.y) * cell_count(f.x));
}

template <class Element>
struct Best {
  ComputeOf<Element> value;
  int64_t y, x;
};

// The first maximum; NaN is larger than every number.
template <class Element>
__device__ __forceinline__ Best<Element> maximum_of(const PlanesIn& input, const Feature& f) {
  const Element* plane = plane_of<Element>(input, f.region.image, f.channel);
  Best<Element> best{cell(plane, input, f.y.begin, f.x.begin), f.y.begin, f.x.begin};
  for (int64_t y = f.y.begin; y < f.y.end; ++y) {
    for (int64_t x = f.x.begin; x < f.x.end; ++x) {
      const ComputeOf<Element> value = cell(plane, input, y, x);
      if (!(value <= best.value) && best.value == best.value) best = {value, y, x};
    }
  }
  return best;
}

template <class Element, bool kAverage>
__global__ void __launch_bounds__(kThreads) pool_kernel(PyramidPoolParams p, int64_t count) {
  using T = ComputeOf<Element>;
  const int64_t i = own_index();
  if (i >= count) return;
  const Feature f = feature_at<T>(p.pyramid, i);
  T value = 0;
  if (!f.region.sound) {
    value = T(NAN);
  } else if (!is_empty(f.region)) {
    // Zeros are positive.
    value = kAverage ? average_of<Element>(p.input, f) : maximum_of<Element>(p.input, f).value + T(0);
  }
  static_cast<Element*>(p.output)[i] = narrow<Element>(value);
}

template <class Element>
__global__ void __launch_bounds__(kThreads)
    place_kernel(PyramidBackwardParams p, int32_t* places, int64_t count) {
  const int64_t i = own_index();
  if (i >= count) return;
  const Feature f = feature_at<ComputeOf<Element>>(p.pyramid, i);
  places[i] = -1;
  if (!f.region.sound || is_empty(f.region)) return;
  const Best<Element> best = maximum_of<Element>(p.input, f);
  places[i] = int32_t(best.y * p.pyramid.width + best.x);
}

// The blocks that are to be resident: ptxas, left to choose its number of registers, spills around its calls
// of division routines.
constexpr int kBlocks = 4, kAverageBlocks = 2;

template <class Element>
__global__ void __launch_bounds__(kThreads, kBlocks) at_kernel(PyramidAtParams p, int64_t count) {
  const int64_t i = own_index();
  if (i >= count) return;
  const Feature f = feature_at<ComputeOf<Element>>(p.pyramid, i);
  if (!f.region.sound || is_empty(f.region)) return;
  const Best<Element> best = maximum_of<Element>(p.input, f);
  const Element* values = plane_of<Element>(p.values, f.region.image, f.channel);
  static_cast<Element*>(p.output)[i] = values[best.y * p.values.strides[2] + best.x * p.values.strides[3]];
}

struct Cell {
  int64_t image, channel, y, x;
};

// What one region's bins give to a cell that lies in it.
template <class Element, bool kAverage>
__device__ __forceinline__ ComputeOf<Element> gradient_of(const PyramidBackwardParams& p,
                                                          const int32_t* places, int64_t k,
                                                          const RegionCells& region, const Cell& c) {
  using T = ComputeOf<Element>;
  const Pyramid& pyramid = p.pyramid;
  const int64_t height = cell_count(region.y), width = cell_count(region.x);
  int64_t first = k * pyramid_features(pyramid);
  T sum = 0;
  for (int l = 0; l < pyramid.level_count; ++l) {
    const int64_t level = pyramid.levels[l];
    const CellSpan rows = bins_of_cell(pyramid.paper, height, level, c.y - region.y.begin);
    const CellSpan columns = bins_of_cell(pyramid.paper, width, level, c.x - region.x.begin);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      for (int64_t j = columns.begin; j < columns.end; ++j) {
        const int64_t at = first + (c.channel * level + i) * level + j;
        if (!kAverage && places[at] != int32_t(c.y * pyramid.width + c.x)) continue;
        const T share = widen(static_cast<const Element*>(p.grad)[at]);
        sum += kAverage ? share / T(cell_count(bin_cells(pyramid.paper, height, level, i)) *
                                    cell_count(bin_cells(pyramid.paper, width, level, j)))
                        : share;
      }
    }
    first += pyramid.channels * level * level;
  }
  return sum;
}

template <class Element, bool kAverage>
__global__ void __launch_bounds__(kThreads, kAverage ? kAverageBlocks : kBlocks)
    backward_kernel(PyramidBackwardParams p, const int32_t* places, int64_t count) {
  using T = ComputeOf<Element>;
  int64_t i = own_index();
  if (i >= count) return;
  const Pyramid& pyramid = p.pyramid;
  Cell c;
  c.x = i % pyramid.width, i /= pyramid.width;
  c.y = i % pyramid.height, i /= pyramid.height;
  c.channel = i % pyramid.channels;
  c.image = i / pyramid.channels;
  const bool whole = pyramid.whole;
  T sum = 0;
  for (int64_t k = whole ? c.image : 0; k < (whole ? c.image + 1 : pyramid.regions.count); ++k) {
    const RegionCells region = region_cells<T>(pyramid, k);
    if (!region.sound || region.image != c.image || c.y < region.y.begin || c.y >= region.y.end ||
        c.x < region.x.begin || c.x >= region.x.end) {
      continue;
    }
    sum += gradient_of<Element, kAverage>(p, places, k, region, c);
  }
  static_cast<Element*>(p.grad_input)[c.image * p.grad_strides[0] + c.channel * p.grad_strides[1] +
                                      c.y * p.grad_strides[2] + c.x * p.grad_strides[3]] =
      narrow<Element>(sum);
}

int64_t all_features(const Pyramid& p) { return p.regions.count * pyramid_features(p); }

LaunchConfig one_each(int64_t count, cudaStream_t stream) {
  return {dim3(unsigned(ceil_div<int64_t>(count, kThreads))), dim3(kThreads), 0, stream};
}

bool fits(int64_t count) { return ceil_div<int64_t>(count, kThreads) <= INT32_MAX; }

}  // namespace

cudaError_t pyramid_pool_cuda(const PyramidPoolParams& p, cudaStream_t stream) {
  const int64_t count = all_features(p.pyramid);
  if (count == 0) return cudaSuccess;
  if (!fits(count)) return cudaErrorInvalidValue;
  return with_element(p.pyramid.dtype, [&](auto element) {
    using Element = decltype(element);
    return p.pyramid.average ? launch(pool_kernel<Element, true>, one_each(count, stream), p, count)
                             : launch(pool_kernel<Element, false>, one_each(count, stream), p, count);
  });
}

cudaError_t pyramid_backward_cuda(const PyramidBackwardParams& p, int32_t* places, cudaStream_t stream) {
  const Pyramid& pyramid = p.pyramid;
  const int64_t features = all_features(pyramid);
  const int64_t cells = pyramid.images * pyramid.channels * pyramid.height * pyramid.width;
  if (cells == 0) return cudaSuccess;
  if (!fits(features) || !fits(cells)) return cudaErrorInvalidValue;
  return with_element(pyramid.dtype, [&](auto element) {
    using Element = decltype(element);
    if (pyramid.average)
      return launch(backward_kernel<Element, true>, one_each(cells, stream), p, places, cells);
    if (features > 0) {
      if (cudaError_t error =
              launch(place_kernel<Element>, one_each(features, stream), p, places, features)) {
        return error;
      }
    }
    return launch(backward_kernel<Element, false>, one_each(cells, stream), p, places, cells);
  });
}

cudaError_t pyramid_at_cuda(const PyramidAtParams& p, cudaStream_t stream) {
  const int64_t count = all_features(p.pyramid);
  if (count == 0) return cudaSuccess;
  if (!fits(count)) return cudaErrorInvalidValue;
  return with_element(p.pyramid.dtype, [&](auto element) {
    return launch(at_kernel<decltype(element)>, one_each(count, stream), p, count);
  });
}

}  // namespace gcv
