// Blocks of channels, several vectors beside each other at a pixel. The mean of a bin's samples is separable:
// for each row of bins, the map's rows are summed once for every column that the region touches, and bins sum
// those. Only results are turned into planes.
#include "roi/roi_align.h"
#include "roi/roi_align_lines_cpu.h"

namespace gcv::GCV_ISA {
namespace {

// Results of this size leave the caches before anyone reads them.
constexpr int64_t kStreamedBytes = int64_t(4) << 20;

template <class T>
void fill(T* block, int64_t pixels, T value) {
  for (int64_t i = 0; i < pixels * kBlock<T>; ++i) block[i] = value;
}

// to = the sum of weights times pixels.
template <class T, class PixelOf>
GCV_HD void sum_taps(const Tap<T>* tap, const Tap<T>* end, const PixelOf& pixel_of, T* to) {
  Simd<T> sum[kVectors] = {};
  for (; tap != end; ++tap) {
    const T* from = pixel_of(tap->place);
    const Simd<T> weight = splat(tap->weight);
    for (int v = 0; v < kVectors; ++v) sum[v] = multiply_add<T>(weight, load(from + v * kLanes<T>), sum[v]);
  }
  for (int v = 0; v < kVectors; ++v) store(to + v * kLanes<T>, sum[v]);
}

// Sums the rows of a bin for every column that the region touches; column `place` is at columns + place.
template <class T>
struct SumOfBlock {
  const Lines<T>& x;
  const Lines<T>& y;
  BlockMap<T> map;

  void run(int64_t ph, T* columns) const {
    for (int64_t i = 0; i < x.count; ++i) {
      const T* top = map.data + x.lines[i] * map.pixel;
      sum_taps(
          y.begin_of(ph), y.end_of(ph), [&](int32_t place) { return top + y.lines[place] * map.row; },
          columns + i * kBlock<T>);
    }
  }

  int64_t column(int32_t place) const { return place; }
};

// The same from planes. Only the sums, which are fewer than the pixels, are turned.
template <class Element>
struct SumOfPlanes {
  using T = ComputeOf<Element>;
  const Lines<T>& x;
  const Lines<T>& y;
  BlockPlanes<Element> planes;

  void run(int64_t ph, T* columns) const {
    for (int64_t c = 0; c < planes.channels; c += kLanes<T>) {
      for (int64_t at = planes.x.begin; at < planes.x.end; at += kLanes<T>)
        sum_square(ph, c, at, columns + (at - planes.x.begin) * kBlock<T> + c);
    }
  }

  int64_t column(int32_t place) const { return x.lines[place] - planes.x.begin; }

 private:
  void sum_square(int64_t ph, int64_t c, int64_t at, T* to) const {
    const Element* first = planes.data + c * planes.channel + at;
    // Past the last channel, that one again.
    const int64_t left = planes.channels - c - 1;
    Simd<T> sums[kLanes<T>] = {};
    for (const Tap<T>* tap = y.begin_of(ph); tap != y.end_of(ph); ++tap) {
      const Element* row = first + y.lines[tap->place] * planes.row;
      const Simd<T> weight = splat(tap->weight);
      for (int64_t i = 0; i < kLanes<T>; ++i)
        sums[i] = multiply_add<T>(weight, load_lanes(row + (i < left ? i : left) * planes.channel), sums[i]);
    }
    transpose<T>(sums);
    for (int i = 0; i < kLanes<T>; ++i) store(to + i * kBlock<T>, sums[i]);
  }
};

template <class T, class SumOfRows>
void average_bins(const RoiAlignRegions& p, const Lines<T>& x, const SumOfRows& rows, T* columns, T* tile) {
  for (int64_t ph = 0; ph < p.pooled_height; ++ph) {
    rows.run(ph, columns);
    for (int64_t pw = 0; pw < p.pooled_width; ++pw, tile += kBlock<T>) {
      sum_taps(
          x.begin_of(pw), x.end_of(pw),
          [&](int32_t place) { return columns + rows.column(place) * kBlock<T>; }, tile);
    }
  }
}

template <class T>
GCV_HD Simd<T> interpolate(const T* pixel, const BlockMap<T>& map, const RoiSample<T>& y,
                           const RoiSample<T>& x) {
  const T *low = pixel + y.low * map.row, *high = pixel + y.high * map.row;
  const auto blend = [](Simd<T> a, Simd<T> b, T a_weight, T b_weight) {
    return splat(a_weight) * a + splat(b_weight) * b;
  };
  const int64_t left = x.low * map.pixel, right = x.high * map.pixel;
  const Simd<T> at_left = blend(load(low + left), load(high + left), y.low_weight, y.high_weight);
  const Simd<T> at_right = blend(load(low + right), load(high + right), y.low_weight, y.high_weight);
  return blend(at_left, at_right, x.low_weight, x.high_weight);
}

template <class T>
void largest_of_bins(const RoiAlignRegions& p, const RoiPlace<T>& place, const BlockMap<T>& map, T* tile) {
  const RoiAlignMap& level = p.levels[place.level];
  for (int64_t ph = 0; ph < p.pooled_height; ++ph) {
    for (int64_t pw = 0; pw < p.pooled_width; ++pw, tile += kBlock<T>) {
      Simd<T> best[kVectors] = {};
      bool any = false;
      for_each_sample(place, ph, pw, level.height, level.width,
                      [&](const RoiSample<T>& y, const RoiSample<T>& x, int64_t, int64_t) {
                        for (int v = 0; v < kVectors; ++v) {
                          const Simd<T> value =
                              y.inside ? interpolate(map.data + v * kLanes<T>, map, y, x) : Simd<T>{};
                          // As roi_is_better.
                          const auto better = value > best[v] || (value != value && best[v] == best[v]);
                          best[v] = any ? (better ? value : best[v]) : value;
                        }
                        any = true;
                      });
      for (int v = 0; v < kVectors; ++v) store(tile + v * kLanes<T>, best[v]);
    }
  }
}

template <class Element>
class Align {
  using T = ComputeOf<Element>;

 public:
  Align(const RoiAlignParams& p, const RoiAlignBlocks& blocks, void* scratch)
      : p_(p), r_(p.regions), maps_(r_, blocks) {
    Pieces pieces(scratch);
    lines_ = {pieces.take_lines<T>(r_, true), pieces.take_lines<T>(r_, false)};
    columns_ = pieces.take<T>(longest_side(r_, false) * kBlock<T>);
    tile_ = pieces.take<T>(bins_of(r_) * kBlock<T>);
    planes_ = pieces.take<Element>(bins_of(r_) * kBlock<T>);
    copy_ = pieces.take<T>(0);
    streams_ = r_.boxes.count * r_.channels * bins_of(r_) * int64_t(sizeof(Element)) >= kStreamedBytes;
  }

  void run(int64_t block, int64_t k) {
    const RoiPlace<T> place = roi_place<T>(r_, k);
    if (place.level < 0) {
      fill(tile_, bins_of(r_), place.sound ? T(0) : T(__builtin_nan("")));
    } else if (r_.is_max) {
      largest_of_bins(r_, place, maps_.of(place, block, copy_), tile_);
    } else {
      average(block, place);
    }
    write(block, k);
  }

 private:
  void average(int64_t block, const RoiPlace<T>& place) {
    lines_.set(r_, place);
    const auto &x = lines_.x, &y = lines_.y;
    if (maps_.are_planes(place)) {
      average_bins(r_, x, SumOfPlanes<Element>{x, y, maps_.planes_of(place, block)}, columns_, tile_);
    } else {
      average_bins(r_, x, SumOfBlock<T>{x, y, maps_.of(place, block, copy_)}, columns_, tile_);
    }
  }

  void write(int64_t block, int64_t k) const {
    const int64_t first = block * kBlock<T>, channels = block_channels<T>(r_, first), bins = bins_of(r_);
    auto* out = static_cast<Element*>(p_.output) + k * r_.channels * bins;
    if (p_.output_channels_last) {
      write_pixels(out + first, channels);
      return;
    }
    out += first * bins;
    from_block<Element>(tile_, bins, channels, {streams_ ? planes_ : out, bins, 1});
    if (streams_) stream(out, planes_, size_t(channels * bins) * sizeof(Element));
  }

  void write_pixels(Element* out, int64_t channels) const {
    if (!streams_) return from_block<Element>(tile_, bins_of(r_), channels, {out, 1, r_.channels});
    from_block<Element>(tile_, bins_of(r_), channels, {planes_, 1, channels});
    for (int64_t bin = 0; bin < bins_of(r_); ++bin)
      stream(out + bin * r_.channels, planes_ + bin * channels, size_t(channels) * sizeof(Element));
  }

  const RoiAlignParams& p_;
  const RoiAlignRegions& r_;
  Maps<Element> maps_;
  RegionLines<T> lines_;
  T *columns_, *tile_, *copy_;
  Element* planes_;
  bool streams_;
};

template <class Element>
void align(const RoiAlignParams& p, const RoiAlignBlocks& blocks, const int64_t* order, void* scratch,
           int64_t begin, int64_t end) {
  Align<Element> align(p, blocks, scratch);
  const int64_t regions = p.regions.boxes.count;
  for (int64_t item = begin; item < end; ++item) align.run(item / regions, order[item % regions]);
  finish_streams();
}

template <class Element>
void lay_out(const RoiAlignRegions& p, int64_t level, void* blocks, int64_t begin, int64_t end) {
  using T = ComputeOf<Element>;
  const RoiAlignMap& map = p.levels[level];
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item / p.batch * kBlock<T>;
    const auto* data =
        static_cast<const Element*>(map.data) + item % p.batch * map.strides[0] + first * map.strides[1];
    T* block = static_cast<T*>(blocks) + item * map.height * map.width * kBlock<T>;
    maps_to_block(data, map.strides, map.height, map.width, block_channels<T>(p, first), block);
  }
}

template <class Element>
size_t scratch_bytes(const RoiAlignRegions& p, int64_t pixels) {
  using T = ComputeOf<Element>;
  const int64_t vectors = longest_side(p, false) + 2 * bins_of(p) + pixels;
  return size_t(region_lines_bytes<T>(p) + vectors * kBlock<T> * int64_t(sizeof(T)));
}

}  // namespace

int64_t roi_align_block_cpu(DType dtype) { return dtype == DType::f64 ? kBlock<double> : kBlock<float>; }

void roi_align_lay_out_cpu(const RoiAlignRegions& p, int64_t level, void* blocks, int64_t begin,
                           int64_t end) {
  GCV_BY_DTYPE(p.dtype, lay_out, p, level, blocks, begin, end);
}

size_t roi_align_scratch_cpu(const RoiAlignRegions& p, int64_t pixels) {
  return GCV_BY_DTYPE(p.dtype, scratch_bytes, p, pixels);
}

void roi_align_cpu(const RoiAlignParams& p, const RoiAlignBlocks& blocks, const int64_t* order, void* scratch,
                   int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.regions.dtype, align, p, blocks, order, scratch, begin, end);
}

}  // namespace gcv::GCV_ISA
