// Blocks of channels, a vector of them at a time: a bin's maximum takes a load and a comparison per pixel and
// vector, and only results are turned into planes.
#include "roi/roi_pool.h"
#include "roi/roi_pool_bins.h"
#include "roi/roi_pool_lanes.h"

namespace gcv::GCV_ISA {
namespace {

// Results of this size leave the caches before anyone reads them.
constexpr int64_t kStreamedBytes = int64_t(4) << 20;

// Where the pixels of one region lie: that of row y and column x at data + y * row + x * pixel.
template <class T>
struct Window {
  const T* data;
  int64_t row, pixel;
};

template <class T>
GCV_HD void largest(const T* first, int64_t rows, int64_t columns, const Window<T>& w, T* result) {
  Simd<T> best[kVectors];
  for (int v = 0; v < kVectors; ++v) best[v] = splat(T(kLowest));
  for (int64_t y = 0; y < rows; ++y, first += w.row) {
    const T* p = first;
    for (int64_t x = 0; x < columns; ++x, p += w.pixel) {
      for (int v = 0; v < kVectors; ++v) {
        const Simd<T> value = load(p + v * kLanes<T>);
        best[v] = value > best[v] ? value : best[v];
      }
    }
  }
  for (int v = 0; v < kVectors; ++v) store(result + v * kLanes<T>, best[v]);
}

template <class T>
void fill(T* block, int64_t pixels, T value) {
  for (int64_t i = 0; i < pixels * kBlock<T>; ++i) block[i] = value;
}

template <class T>
void pool_bins(const PoolShape& s, const Bins& bins, const Window<T>& window, T* tile) {
  for (int64_t i = 0; i < s.rows; ++i) {
    const Extent y = bins.y[i];
    for (int64_t j = 0; j < s.columns; ++j, tile += kBlock<T>) {
      const Extent x = bins.x[j];
      if (y.begin < y.end && x.begin < x.end) {
        const T* first = window.data + y.begin * window.row + x.begin * window.pixel;
        largest(first, y.end - y.begin, x.end - x.begin, window, tile);
      } else {
        fill(tile, 1, T(0));
      }
    }
  }
}

template <class Element>
class Pool {
  using T = ComputeOf<Element>;

 public:
  Pool(const RoiPoolParams& p, const void* laid_out, void* scratch)
      : p_(p), s_(p.shape), laid_out_(static_cast<const T*>(laid_out)), memory_(scratch, s_) {
    tile_ = memory_.template take<T>(bin_count(s_) * kBlock<T>);
    planes_ = memory_.template take<Element>(bin_count(s_) * kBlock<T>);
    streams_ = s_.regions.count * s_.channels * bin_count(s_) * int64_t(sizeof(Element)) >= kStreamedBytes;
    copy_ = memory_.template rest<T>();
  }

  void run(int64_t block, int64_t k) {
    const PoolRegion<T> region = pool_region<T>(s_, k);
    const int64_t first = block * kBlock<T>;
    const int64_t channels = block_channels(s_, first, kBlock<T>);
    if (region.sound) {
      memory_.bins.set(s_, region);
      pool_bins(s_, memory_.bins, window(region.image, block, channels), tile_);
    } else {
      fill(tile_, bin_count(s_), T(__builtin_nan("")));
    }
    auto* out = static_cast<Element*>(p_.output) + (k * s_.channels + first) * bin_count(s_);
    from_block<Element>(tile_, bin_count(s_), channels, {streams_ ? planes_ : out, bin_count(s_), 1});
    if (streams_) stream(out, planes_, size_t(channels * bin_count(s_)) * sizeof(Element));
  }

 private:
  Window<T> window(int64_t image, int64_t block, int64_t channels) {
    if (laid_out_ != nullptr) {
      const T* map = laid_out_ + (block * s_.images + image) * map_pixels(s_) * kBlock<T>;
      return {map, s_.width * kBlock<T>, kBlock<T>};
    }
    const int64_t (&strides)[4] = p_.input.strides;
    const auto* map = static_cast<const Element*>(p_.input.data) + image * strides[0];
    map += block * kBlock<T> * strides[1];
    if constexpr (std::is_same<Element, T>::value) {
      if (strides[1] == 1 && channels == kBlock<T>) return {map, strides[2], strides[3]};
    }
    return copied(map, channels);
  }

  // The pixels of the region alone.
  Window<T> copied(const Element* map, int64_t channels) {
    const Extent y = memory_.bins.rows(s_), x = memory_.bins.columns(s_);
    const int64_t height = y.end - y.begin, width = x.end - x.begin;
    const Element* corner = map + y.begin * p_.input.strides[2] + x.begin * p_.input.strides[3];
    if (height > 0 && width > 0) maps_to_block(corner, p_.input.strides, height, width, channels, copy_);
    return {copy_ - (y.begin * width + x.begin) * kBlock<T>, width * kBlock<T>, kBlock<T>};
  }

  const RoiPoolParams& p_;
  const PoolShape& s_;
  const T* laid_out_;
  BinMemory memory_;
  bool streams_;
  T* tile_;
  Element* planes_;
  T* copy_;
};

template <class Element>
void lay_out(const RoiPoolParams& p, void* laid_out, int64_t begin, int64_t end) {
  using T = ComputeOf<Element>;
  const PoolShape& s = p.shape;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item / s.images * kBlock<T>;
    const auto* map = static_cast<const Element*>(p.input.data);
    map += item % s.images * p.input.strides[0] + first * p.input.strides[1];
    T* block = static_cast<T*>(laid_out) + item * map_pixels(s) * kBlock<T>;
    maps_to_block(map, p.input.strides, s.height, s.width, block_channels(s, first, kBlock<T>), block);
  }
}

template <class Element>
void pool(const RoiPoolParams& p, const void* laid_out, const int64_t* order, void* scratch, int64_t begin,
          int64_t end) {
  Pool<Element> pool(p, laid_out, scratch);
  const int64_t regions = p.shape.regions.count;
  for (int64_t item = begin; item < end; ++item) pool.run(item / regions, order[item % regions]);
  finish_streams();
}

}  // namespace

int64_t roi_pool_block_cpu(DType dtype) { return dtype == DType::f64 ? kBlock<double> : kBlock<float>; }

void roi_pool_lay_out_cpu(const RoiPoolParams& p, void* laid_out, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.shape.dtype, lay_out, p, laid_out, begin, end);
}

size_t roi_pool_scratch_cpu(const PoolShape& s, int64_t pixels) {
  return bin_bytes(s) + size_t(2 * bin_count(s) + pixels) * kVectors * kVectorBytes;
}

void roi_pool_cpu(const RoiPoolParams& p, const void* laid_out, const int64_t* order, void* scratch,
                  int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.shape.dtype, pool, p, laid_out, order, scratch, begin, end);
}

}  // namespace gcv::GCV_ISA
