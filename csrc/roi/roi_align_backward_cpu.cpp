// The transpose of the forward pass, in blocks of channels. A part of a map's gradient has one owner, which
// adds what its regions give in their order, so the bits do not depend on threads.
#include "roi/roi_align.h"
#include "roi/roi_align_lines_cpu.h"

namespace gcv::GCV_ISA {
namespace {

// pixel += weight * value, for all channels of a block.
template <class T>
GCV_HD void add_pixel(T* pixel, T weight, const T* value) {
  for (int v = 0; v < kVectors; ++v) {
    T* to = pixel + v * kLanes<T>;
    store(to, multiply_add<T>(splat(weight), load(value + v * kLanes<T>), load(to)));
  }
}

template <class T>
void clear(T* block, int64_t pixels) {
  for (int64_t i = 0; i < pixels * kBlock<T>; ++i) block[i] = 0;
}

// A region's gradient: [bins, channels of the block].
template <class Element>
void grad_to_block(const RoiAlignBackwardParams& p, int64_t k, int64_t first, ComputeOf<Element>* tile) {
  const RoiAlignRegions& r = p.regions;
  const auto* grad = static_cast<const Element*>(p.grad) + k * p.grad_strides[0] + first * p.grad_strides[1];
  maps_to_block(grad, p.grad_strides, r.pooled_height, r.pooled_width,
                block_channels<ComputeOf<Element>>(r, first), tile);
}

template <class T>
void spread_average(const RoiAlignRegions& p, const RegionLines<T>& lines, const T* tile, T* columns,
                    const BlockMap<T>& map, T* grad) {
  for (int64_t ph = 0; ph < p.pooled_height; ++ph) {
    clear(columns, lines.x.count);
    for (int64_t pw = 0; pw < p.pooled_width; ++pw, tile += kBlock<T>) {
      for (const Tap<T>* tap = lines.x.begin_of(pw); tap != lines.x.end_of(pw); ++tap)
        add_pixel(columns + tap->place * kBlock<T>, tap->weight, tile);
    }
    for (const Tap<T>* tap = lines.y.begin_of(ph); tap != lines.y.end_of(ph); ++tap) {
      T* row = grad + lines.y.lines[tap->place] * map.row;
      for (int64_t i = 0; i < lines.x.count; ++i)
        add_pixel(row + lines.x.lines[i] * map.pixel, tap->weight, columns + i * kBlock<T>);
    }
  }
}

// The greatest sample of one channel.
template <class T>
struct Best {
  T value;
  RoiSample<T> y, x;  // not inside where the sample is off the map
  int64_t iy, ix;
};

template <class T, class Element>
GCV_HD T value_at(const Element* channel, const int64_t (&strides)[4], const RoiSample<T>& y,
                  const RoiSample<T>& x) {
  const auto at = [&](int64_t row, int64_t column) {
    return T(widen(channel[row * strides[2] + column * strides[3]]));
  };
  const T left = roi_interpolate(at(y.low, x.low), at(y.high, x.low), y.low_weight, y.high_weight);
  const T right = roi_interpolate(at(y.low, x.high), at(y.high, x.high), y.low_weight, y.high_weight);
  return roi_interpolate(left, right, x.low_weight, x.high_weight);
}

template <class T, class Element>
GCV_HD Best<T> best_of_bin(const RoiPlace<T>& place, int64_t ph, int64_t pw, const RoiAlignMap& map,
                           const Element* channel) {
  Best<T> best{};
  bool any = false;
  for_each_sample(place, ph, pw, map.height, map.width,
                  [&](const RoiSample<T>& y, const RoiSample<T>& x, int64_t iy, int64_t ix) {
                    const T value = y.inside ? value_at(channel, map.strides, y, x) : T(0);
                    if (!any || roi_is_better(value, best.value)) best = {value, y, x, iy, ix};
                    any = true;
                  });
  return best;
}

template <class Element>
const Element* channel_of(const RoiAlignMap& map, int64_t image, int64_t channel) {
  return static_cast<const Element*>(map.data) + image * map.strides[0] + channel * map.strides[1];
}

template <class Element>
class MapsBackward {
  using T = ComputeOf<Element>;

 public:
  MapsBackward(const RoiAlignBackwardParams& p, const RoiAlignOrder& order, void* scratch)
      : p_(p), r_(p.regions), order_(order) {
    Pieces pieces(scratch);
    lines_ = {pieces.take_lines<T>(r_, true), pieces.take_lines<T>(r_, false)};
    columns_ = pieces.take<T>(longest_side(r_, false) * kBlock<T>);
    tile_ = pieces.take<T>(bins_of(r_) * kBlock<T>);
    grad_ = pieces.take<T>(0);
  }

  void run(int64_t level, int64_t image, int64_t block) {
    const RoiAlignMap& map = r_.levels[level];
    const int64_t pixels = map.height * map.width, first = block * kBlock<T>;
    clear(grad_, pixels);
    const int64_t* starts = order_.starts + level * r_.batch + image;
    for (int64_t i = starts[0]; i < starts[1]; ++i) add_region(order_.order[i], level, first);
    write(level, image, first);
  }

 private:
  void add_region(int64_t k, int64_t level, int64_t first) {
    const RoiPlace<T> place = roi_place<T>(r_, k);
    grad_to_block<Element>(p_, k, first, tile_);
    if (r_.is_max) {
      spread_largest(place, first);
    } else {
      lines_.set(r_, place);
      const int64_t row = r_.levels[level].width * kBlock<T>;
      spread_average(r_, lines_, tile_, columns_, BlockMap<T>{nullptr, row, kBlock<T>}, grad_);
    }
  }

  void spread_largest(const RoiPlace<T>& place, int64_t first) {
    const RoiAlignMap& map = r_.levels[place.level];
    const int64_t channels = block_channels<T>(r_, first);
    for (int64_t bin = 0; bin < bins_of(r_); ++bin) {
      for (int64_t c = 0; c < channels; ++c) {
        const Best<T> best = best_of_bin(place, bin / r_.pooled_width, bin % r_.pooled_width, map,
                                         channel_of<Element>(map, place.image, first + c));
        if (best.y.inside) add_sample(map, best, c, tile_[bin * kBlock<T> + c]);
      }
    }
  }

  void add_sample(const RoiAlignMap& map, const Best<T>& best, int64_t channel, T grad) {
    const auto add = [&](int64_t y, int64_t x, T weight) {
      grad_[(y * map.width + x) * kBlock<T> + channel] += weight * grad;
    };
    add(best.y.low, best.x.low, best.y.low_weight * best.x.low_weight);
    add(best.y.low, best.x.high, best.y.low_weight * best.x.high_weight);
    add(best.y.high, best.x.low, best.y.high_weight * best.x.low_weight);
    add(best.y.high, best.x.high, best.y.high_weight * best.x.high_weight);
  }

  void write(int64_t level, int64_t image, int64_t first) const {
    const RoiAlignMap& map = r_.levels[level];
    const int64_t pixels = map.height * map.width;
    auto* out = static_cast<Element*>(p_.grad_maps[level]) + image * r_.channels * pixels;
    const bool last = p_.grad_maps_channels_last;
    const Planes<Element> planes{out + first * (last ? 1 : pixels), last ? 1 : pixels,
                                 last ? r_.channels : 1};
    from_block<Element>(grad_, pixels, block_channels<T>(r_, first), planes);
  }

  const RoiAlignBackwardParams& p_;
  const RoiAlignRegions& r_;
  const RoiAlignOrder& order_;
  RegionLines<T> lines_;
  T *columns_, *tile_, *grad_;
};

template <class Element>
void maps_backward(const RoiAlignBackwardParams& p, const RoiAlignOrder& order, void* scratch, int64_t begin,
                   int64_t end) {
  MapsBackward<Element> backward(p, order, scratch);
  const int64_t block = kBlock<ComputeOf<Element>>, blocks = (p.regions.channels + block - 1) / block;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t map = item / blocks;
    backward.run(map / p.regions.batch, map % p.regions.batch, item % blocks);
  }
}

// What the sum of all results, each times its gradient, gains when an edge of the box moves by one; in
// double, since terms of either sign cancel.
struct EdgeGradients {
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;
};

template <class T>
GCV_HD double sum_of_products(const T* a, const T* b) {
  double total = 0;
  for (int64_t i = 0; i < kBlock<T>; ++i) total += double(a[i]) * double(b[i]);
  return total;
}

template <class Element>
class BoxesBackward {
  using T = ComputeOf<Element>;

 public:
  BoxesBackward(const RoiAlignBackwardParams& p, const RoiAlignBlocks& blocks, void* scratch)
      : p_(p), r_(p.regions), maps_(r_, blocks) {
    Pieces pieces(scratch);
    tile_ = pieces.take<T>(bins_of(r_) * kBlock<T>);
    copy_ = pieces.take<T>(0);
  }

  void run(int64_t k) {
    const RoiPlace<T> place = roi_place<T>(r_, k);
    edges_ = {};
    for (int64_t first = 0; place.level >= 0 && first < r_.channels; first += kBlock<T>) {
      grad_to_block<Element>(p_, k, first, tile_);
      if (r_.is_max) {
        add_largest(place, first);
      } else {
        add_average(place, maps_.of(place, first / kBlock<T>, copy_));
      }
    }
    r_.boxes.dtype == DType::f64    ? write<double>(k)
    : r_.boxes.dtype == DType::f16  ? write<Half>(k)
    : r_.boxes.dtype == DType::bf16 ? write<BFloat16>(k)
                                    : write<float>(k);
  }

 private:
  void add_average(const RoiPlace<T>& place, const BlockMap<T>& blocks) {
    const RoiAlignMap& map = r_.levels[place.level];
    const double mean = 1 / double(roi_sample_count(place.y, place.x));
    for (int64_t bin = 0; bin < bins_of(r_); ++bin) {
      const int64_t ph = bin / r_.pooled_width, pw = bin % r_.pooled_width;
      const T* grad = tile_ + bin * kBlock<T>;
      const auto at = [&](int64_t row, int64_t column) {
        return mean * sum_of_products(grad, blocks.data + row * blocks.row + column * blocks.pixel);
      };
      for_each_sample(place, ph, pw, map.height, map.width,
                      [&](const RoiSample<T>& y, const RoiSample<T>& x, int64_t iy, int64_t ix) {
                        if (y.inside) add_sample(place, bin, y, x, iy, ix, at);
                      });
    }
  }

  void add_largest(const RoiPlace<T>& place, int64_t first) {
    const RoiAlignMap& map = r_.levels[place.level];
    const int64_t channels = block_channels<T>(r_, first);
    for (int64_t bin = 0; bin < bins_of(r_); ++bin) {
      for (int64_t c = 0; c < channels; ++c) {
        const Element* channel = channel_of<Element>(map, place.image, first + c);
        const Best<T> best = best_of_bin(place, bin / r_.pooled_width, bin % r_.pooled_width, map, channel);
        const double grad = double(tile_[bin * kBlock<T> + c]);
        const auto at = [&](int64_t row, int64_t column) {
          return grad * double(widen(channel[row * map.strides[2] + column * map.strides[3]]));
        };
        if (best.y.inside) add_sample(place, bin, best.y, best.x, best.iy, best.ix, at);
      }
    }
  }

  // at(row, column) is a cell's value times what a result that equals it counts.
  template <class At>
  void add_sample(const RoiPlace<T>& place, int64_t bin, const RoiSample<T>& y, const RoiSample<T>& x,
                  int64_t iy, int64_t ix, const At& at) {
    const double top_left = at(y.low, x.low), top_right = at(y.low, x.high);
    const double bottom_left = at(y.high, x.low), bottom_right = at(y.high, x.high);
    const double scale = r_.levels[place.level].scale;
    if (y.moves) {
      const double moved = double(x.low_weight) * (bottom_left - top_left) +
                           double(x.high_weight) * (bottom_right - top_right);
      const RoiSlope<T> slope = roi_slope(place.y, scale, bin / r_.pooled_width, iy, r_.pooled_height);
      edges_.y1 += moved * double(slope.from);
      edges_.y2 += moved * double(slope.to);
    }
    if (x.moves) {
      const double moved = double(y.low_weight) * (top_right - top_left) +
                           double(y.high_weight) * (bottom_right - bottom_left);
      const RoiSlope<T> slope = roi_slope(place.x, scale, bin % r_.pooled_width, ix, r_.pooled_width);
      edges_.x1 += moved * double(slope.from);
      edges_.x2 += moved * double(slope.to);
    }
  }

  template <class BoxElement>
  void write(int64_t k) const {
    auto* row = static_cast<BoxElement*>(p_.grad_boxes) + 5 * k;
    const double edges[5] = {0, edges_.x1, edges_.y1, edges_.x2, edges_.y2};
    for (int i = 0; i < 5; ++i) narrow(ComputeOf<BoxElement>(edges[i]), row[i]);
  }

  const RoiAlignBackwardParams& p_;
  const RoiAlignRegions& r_;
  Maps<Element> maps_;
  EdgeGradients edges_;
  T *tile_, *copy_;
};

template <class Element>
void boxes_backward(const RoiAlignBackwardParams& p, const RoiAlignBlocks& blocks, void* scratch,
                    int64_t begin, int64_t end) {
  BoxesBackward<Element> backward(p, blocks, scratch);
  for (int64_t k = begin; k < end; ++k) backward.run(k);
}

template <class Element>
size_t scratch_bytes(const RoiAlignRegions& p) {
  using T = ComputeOf<Element>;
  int64_t pixels = 0;
  for (int64_t i = 0; i < p.level_count; ++i) {
    const int64_t here = p.levels[i].height * p.levels[i].width;
    pixels = here > pixels ? here : pixels;
  }
  const int64_t vectors = longest_side(p, false) + bins_of(p) + pixels;
  return size_t(region_lines_bytes<T>(p) + vectors * kBlock<T> * int64_t(sizeof(T)));
}

}  // namespace

size_t roi_align_maps_backward_scratch_cpu(const RoiAlignRegions& p) {
  return GCV_BY_DTYPE(p.dtype, scratch_bytes, p);
}

void roi_align_maps_backward_cpu(const RoiAlignBackwardParams& p, const RoiAlignOrder& order, void* scratch,
                                 int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.regions.dtype, maps_backward, p, order, scratch, begin, end);
}

void roi_align_boxes_backward_cpu(const RoiAlignBackwardParams& p, const RoiAlignBlocks& blocks,
                                  void* scratch, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.regions.dtype, boxes_backward, p, blocks, scratch, begin, end);
}

}  // namespace gcv::GCV_ISA
