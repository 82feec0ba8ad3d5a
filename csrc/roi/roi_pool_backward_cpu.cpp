// A block of channels of one image has one owner, who takes the regions in their order: equal bits at any
// number of threads, and no two writers. Maxima are found again, which is cheaper than writing them to memory
// and reading them back.
#include "roi/roi_pool.h"
#include "roi/roi_pool_bins.h"
#include "roi/roi_pool_lanes.h"

namespace gcv::GCV_ISA {
namespace {

template <class T>
using IndexOf = typename std::conditional<sizeof(T) == 8, int64_t, int32_t>::type;

// The pixel numbers of a bin's first maxima, a vector of channels at a time; -1 where there is none.
template <class T>
GCV_HD void find_largest(const T* map, int64_t width, Extent y, Extent x, IndexOf<T>* pixels) {
  using Index = IndexOf<T>;
  Simd<T> best[kVectors];
  Simd<Index> at[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    best[v] = splat(T(kLowest));
    at[v] = splat(Index(-1));
  }
  for (int64_t row = y.begin; row < y.end; ++row) {
    for (int64_t pixel = row * width + x.begin; pixel < row * width + x.end; ++pixel) {
      const Simd<Index> here = splat(Index(pixel));
      for (int v = 0; v < kVectors; ++v) {
        const Simd<T> value = load(map + pixel * kBlock<T> + v * kLanes<T>);
        const auto larger = value > best[v];
        best[v] = larger ? value : best[v];
        at[v] = larger ? here : at[v];
      }
    }
  }
  for (int v = 0; v < kVectors; ++v) store(pixels + v * kLanes<T>, at[v]);
}

// Adds `share` to the pixels of the maxima. Few pixels are all visited, with whole vectors.
template <class T>
GCV_HD void add_to_largest(const IndexOf<T>* pixels, const T* share, int64_t width, Extent y, Extent x,
                           T* sums) {
  using Index = IndexOf<T>;
  if ((y.end - y.begin) * (x.end - x.begin) > kBlock<T> / 2) {
    for (int64_t c = 0; c < kBlock<T>; ++c) sums[int64_t(pixels[c]) * kBlock<T> + c] += share[c];
    return;
  }
  for (int64_t row = y.begin; row < y.end; ++row) {
    for (int64_t pixel = row * width + x.begin; pixel < row * width + x.end; ++pixel) {
      const Simd<Index> here = splat(Index(pixel));
      for (int v = 0; v < kVectors; ++v) {
        T* at = sums + pixel * kBlock<T> + v * kLanes<T>;
        const Simd<T> sum = load(at);
        const auto largest = load(pixels + v * kLanes<T>) == here;
        store(at, largest ? sum + load(share + v * kLanes<T>) : sum);
      }
    }
  }
}

// Calls bin(number, rows, columns, pixels of the maxima) for each bin that has pixels.
template <class T, class Bin>
GCV_HD void for_each_bin(const PoolShape& s, const Bins& bins, const T* map, const Bin& bin) {
  for (int64_t i = 0; i < s.rows; ++i) {
    for (int64_t j = 0; j < s.columns; ++j) {
      const Extent y = bins.y[i], x = bins.x[j];
      if (y.begin >= y.end || x.begin >= x.end) continue;
      IndexOf<T> pixels[kBlock<T>];
      find_largest(map, s.width, y, x, pixels);
      bin(i * s.columns + j, y, x, pixels);
    }
  }
}

// What the owner of a block of an image has.
template <class Element>
class Owner {
  using T = ComputeOf<Element>;

 public:
  Owner(const PoolShape& s, const PoolOrder& order, void* scratch)
      : s_(s), order_(order), memory_(scratch, s) {
    tile_ = memory_.take<T>(bin_count(s) * kBlock<T>);
    map_ = memory_.take<T>(map_pixels(s) * kBlock<T>);
    other_ = memory_.take<T>((map_pixels(s) + 1) * kBlock<T>) + kBlock<T>;
  }

  void backward(const RoiPoolBackwardParams& p, int64_t item) {
    own(item);
    // Bins without a maximum give theirs to the pixel before the first.
    fill(other_ - kBlock<T>, map_pixels(s_) + 1);
    if (has_regions()) lay_out(p.input, map_);
    for_each_region([&](int64_t k) {
      if (!set_bins(k)) return;
      const auto* grad = static_cast<const Element*>(p.grad.data);
      grad += k * p.grad.strides[0] + first_ * p.grad.strides[1];
      maps_to_block(grad, p.grad.strides, s_.rows, s_.columns, channels_, tile_);
      for_each_bin(s_, memory_.bins, map_, [&](int64_t bin, Extent y, Extent x, const IndexOf<T>* pixels) {
        add_to_largest(pixels, tile_ + bin * kBlock<T>, s_.width, y, x, other_);
      });
    });
    auto* grad_input = place<Element>(p.grad_input);
    maps_from_block(other_, s_.height, s_.width, channels_, grad_input, p.grad_input.strides);
  }

  void pick(const RoiPoolPickParams& p, int64_t item) {
    own(item);
    if (!has_regions()) return;
    fill(other_ - kBlock<T>, 1);
    lay_out(p.input, map_);
    lay_out(p.values, other_);
    for_each_region([&](int64_t k) {
      fill(tile_, bin_count(s_));
      if (set_bins(k)) {
        for_each_bin(s_, memory_.bins, map_, [&](int64_t bin, Extent, Extent, const IndexOf<T>* pixels) {
          T* picked = tile_ + bin * kBlock<T>;
          for (int64_t c = 0; c < kBlock<T>; ++c) picked[c] = other_[int64_t(pixels[c]) * kBlock<T> + c];
        });
      }
      auto* out = static_cast<Element*>(p.output) + (k * s_.channels + first_) * bin_count(s_);
      from_block<Element>(tile_, bin_count(s_), channels_, {out, bin_count(s_), 1});
    });
  }

 private:
  void own(int64_t item) {
    image_ = item % s_.images;
    first_ = item / s_.images * kBlock<T>;
    channels_ = block_channels(s_, first_, kBlock<T>);
  }

  bool has_regions() const { return order_.starts[image_] < order_.starts[image_ + 1]; }

  template <class Run>
  void for_each_region(const Run& run) const {
    for (int64_t i = order_.starts[image_]; i < order_.starts[image_ + 1]; ++i) run(order_.order[i]);
  }

  bool set_bins(int64_t k) {
    const PoolRegion<T> region = pool_region<T>(s_, k);
    if (region.sound) memory_.bins.set(s_, region);
    return region.sound;
  }

  static void fill(T* block, int64_t pixels) {
    for (int64_t i = 0; i < pixels * kBlock<T>; ++i) block[i] = 0;
  }

  template <class E>
  E* place(const PoolMaps& maps) const {
    return static_cast<E*>(maps.data) + image_ * maps.strides[0] + first_ * maps.strides[1];
  }

  void lay_out(const PoolMaps& maps, T* block) const {
    maps_to_block(place<const Element>(maps), maps.strides, s_.height, s_.width, channels_, block);
  }

  const PoolShape& s_;
  const PoolOrder& order_;
  BinMemory memory_;
  T *tile_, *map_, *other_;
  int64_t image_ = 0, first_ = 0, channels_ = 0;
};

template <class Element>
void backward(const RoiPoolBackwardParams& p, const PoolOrder& order, void* scratch, int64_t begin,
              int64_t end) {
  Owner<Element> owner(p.shape, order, scratch);
  for (int64_t item = begin; item < end; ++item) owner.backward(p, item);
}

template <class Element>
void pick(const RoiPoolPickParams& p, const PoolOrder& order, void* scratch, int64_t begin, int64_t end) {
  Owner<Element> owner(p.shape, order, scratch);
  for (int64_t item = begin; item < end; ++item) owner.pick(p, item);
}

}  // namespace

size_t roi_pool_owner_scratch_cpu(const PoolShape& s) {
  return bin_bytes(s) + size_t(bin_count(s) + 2 * map_pixels(s) + 1) * kVectors * kVectorBytes;
}

void roi_pool_backward_cpu(const RoiPoolBackwardParams& p, const PoolOrder& order, void* scratch,
                           int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.shape.dtype, backward, p, order, scratch, begin, end);
}

void roi_pool_pick_cpu(const RoiPoolPickParams& p, const PoolOrder& order, void* scratch, int64_t begin,
                       int64_t end) {
  GCV_BY_DTYPE(p.shape.dtype, pick, p, order, scratch, begin, end);
}

}  // namespace gcv::GCV_ISA
