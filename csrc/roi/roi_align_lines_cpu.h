// What the CPU kernels of RoI align share: the lines of the map that a region's samples touch, their weights,
// and where a block of the map lies. Only roi_align*_cpu.cpp files include this.
#pragma once

#include "roi/map_blocks.h"
#include "roi/roi_align.h"

namespace gcv::GCV_ISA {
namespace {

// A line, by its place among those of the axis, and its weight in a bin.
template <class T>
struct Tap {
  int32_t place;
  T weight;
};

GCV_HD int64_t padded_bytes(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Rows or columns. The mean over a bin's samples is a sum over rows times one over columns, and samples that
// share a line share its tap.
template <class T>
struct Lines {
  Tap<T>* taps;
  int64_t* ends;      // of the taps of each bin; those of the next one follow
  int32_t* lines;     // that some tap names
  int64_t count;      // of lines
  int32_t* place_of;  // of every line of the map: its place among `lines`, or -1

  void clear() {
    for (int64_t i = 0; i < count; ++i) place_of[lines[i]] = -1;
    count = 0;
  }

  // Positions of a bin's samples ascend or descend, so a line that comes again is among the last three.
  void add(int64_t first, int64_t& end, int64_t line, T weight) {
    int32_t& place = place_of[line];
    if (place < 0) {
      place = int32_t(count);
      lines[count++] = int32_t(line);
    }
    for (int64_t i = end - 1; i >= first && i >= end - 3; --i) {
      if (taps[i].place == place) {
        taps[i].weight += weight;
        return;
      }
    }
    taps[end++] = {place, weight};
  }

  // `scale` goes into the weights.
  void set(const RoiAxis<T>& axis, int64_t bins, int64_t size, T scale) {
    clear();
    int64_t end = 0;
    for (int64_t bin = 0; bin < bins; ++bin) {
      const int64_t first = end;
      const RoiSampleRange near = roi_samples_near(axis, bin, size);
      for (int64_t i = near.first; i < near.last; ++i) {
        const RoiSample<T> s = roi_sample(axis, bin, i, size);
        if (!s.inside) continue;
        add(first, end, s.low, s.low_weight);
        add(first, end, s.high, s.high_weight);
      }
      for (int64_t i = first; i < end; ++i) taps[i].weight *= scale;
      ends[bin] = end;
    }
  }

  const Tap<T>* begin_of(int64_t bin) const { return taps + (bin == 0 ? 0 : ends[bin - 1]); }
  const Tap<T>* end_of(int64_t bin) const { return taps + ends[bin]; }
};

GCV_HD int64_t longest_side(const RoiAlignRegions& p, bool rows) {
  int64_t longest = 1;
  for (int64_t i = 0; i < p.level_count; ++i) {
    const int64_t side = rows ? p.levels[i].height : p.levels[i].width;
    longest = side > longest ? side : longest;
  }
  return longest;
}

// Bytes of the taps of an axis: of a bin, no more than there are lines, or two for each sample.
template <class T>
GCV_HD int64_t lines_bytes(const RoiAlignRegions& p, bool rows) {
  const int64_t bins = rows ? p.pooled_height : p.pooled_width, size = longest_side(p, rows);
  const int64_t most = p.sampling_ratio > 0 && p.sampling_ratio < size / 2 ? 2 * p.sampling_ratio : size;
  return padded_bytes(bins * most * int64_t(sizeof(Tap<T>))) + padded_bytes(bins * 8) +
         2 * padded_bytes(size * 4);
}

// Hands out the scratch of a thread.
class Pieces {
 public:
  explicit Pieces(void* memory) : next_(static_cast<char*>(memory)) {}

  template <class Item>
  Item* take(int64_t count) {
    Item* array = reinterpret_cast<Item*>(next_);
    next_ += padded_bytes(count * int64_t(sizeof(Item)));
    return array;
  }

  template <class T>
  Lines<T> take_lines(const RoiAlignRegions& p, bool rows) {
    const int64_t bins = rows ? p.pooled_height : p.pooled_width, size = longest_side(p, rows);
    char* const end = next_ + lines_bytes<T>(p, rows);
    Lines<T> lines;
    lines.ends = take<int64_t>(bins);
    lines.lines = take<int32_t>(size);
    lines.place_of = take<int32_t>(size);
    lines.taps = reinterpret_cast<Tap<T>*>(next_);
    lines.count = 0;
    for (int64_t i = 0; i < size; ++i) lines.place_of[i] = -1;
    next_ = end;
    return lines;
  }

 private:
  char* next_;
};

// Rows and columns of a region, the mean's divisor in the weights of the rows.
template <class T>
struct RegionLines {
  Lines<T> y, x;

  void set(const RoiAlignRegions& p, const RoiPlace<T>& place) {
    const RoiAlignMap& map = p.levels[place.level];
    y.set(place.y, p.pooled_height, map.height, T(1) / roi_sample_count(place.y, place.x));
    x.set(place.x, p.pooled_width, map.width, T(1));
  }
};

template <class T>
GCV_HD int64_t region_lines_bytes(const RoiAlignRegions& p) {
  return lines_bytes<T>(p, true) + lines_bytes<T>(p, false);
}

GCV_HD int64_t bins_of(const RoiAlignRegions& p) { return p.pooled_height * p.pooled_width; }

// Of the block that begins with channel `first`.
template <class T>
GCV_HD int64_t block_channels(const RoiAlignRegions& p, int64_t first) {
  const int64_t left = p.channels - first;
  return left < kBlock<T> ? left : kBlock<T>;
}

// A block of an image's map: the pixel of row y and column x is at data + y * row + x * pixel.
template <class T>
struct BlockMap {
  const T* data;
  int64_t row, pixel;
};

// A region's columns, whole vectors of them, in the planes of a block's channels: the pixel of row y and
// column x of the first channel is at data + y * row + x.
template <class Element>
struct BlockPlanes {
  const Element* data;
  int64_t channel, row, channels;
  RoiExtent x;
};

// Where a region's pixels are found: in blocks, in the map itself where that has them beside each other, or
// in a copy.
template <class Element>
class Maps {
  using T = ComputeOf<Element>;

 public:
  Maps(const RoiAlignRegions& p, const RoiAlignBlocks& blocks) : p_(p), blocks_(blocks) {}

  BlockMap<T> of(const RoiPlace<T>& place, int64_t block, T* copy) const {
    const RoiAlignMap& map = p_.levels[place.level];
    if (const auto* laid_out = static_cast<const T*>(blocks_.levels[place.level])) {
      const int64_t pixels = map.height * map.width;
      return {laid_out + (block * p_.batch + place.image) * pixels * kBlock<T>, map.width * kBlock<T>,
              kBlock<T>};
    }
    const Element* data = block_of(map, place.image, block);
    const int64_t channels = block_channels<T>(p_, block * kBlock<T>);
    if (is_in_place(map, channels)) {
      if constexpr (std::is_same<Element, T>::value) return {data, map.strides[2], map.strides[3]};
    }
    return copied(data, map, place, channels, copy);
  }

  // Whether a region can be read from planes a vector of columns at a time.
  bool are_planes(const RoiPlace<T>& place) const {
    const RoiAlignMap& map = p_.levels[place.level];
    const RoiCopy r = roi_copied_region(p_, place);
    const int64_t width = r.x.end - r.x.begin;
    return blocks_.levels[place.level] == nullptr && map.strides[3] == 1 && width > 0 &&
           width % kLanes<T> == 0;
  }

  BlockPlanes<Element> planes_of(const RoiPlace<T>& place, int64_t block) const {
    const RoiAlignMap& map = p_.levels[place.level];
    return {block_of(map, place.image, block), map.strides[1], map.strides[2],
            block_channels<T>(p_, block * kBlock<T>), roi_copied_region(p_, place).x};
  }

 private:
  const Element* block_of(const RoiAlignMap& map, int64_t image, int64_t block) const {
    return static_cast<const Element*>(map.data) + image * map.strides[0] +
           block * kBlock<T> * map.strides[1];
  }

  static bool is_in_place(const RoiAlignMap& map, int64_t channels) {
    return std::is_same<Element, T>::value && map.strides[1] == 1 && channels == kBlock<T>;
  }

  BlockMap<T> copied(const Element* data, const RoiAlignMap& map, const RoiPlace<T>& place, int64_t channels,
                     T* copy) const {
    const RoiCopy r = roi_copied_region(p_, place);
    const int64_t height = r.y.end - r.y.begin, width = r.x.end - r.x.begin;
    const Element* corner = data + r.y.begin * map.strides[2] + r.x.begin * map.strides[3];
    if (height > 0 && width > 0) maps_to_block(corner, map.strides, height, width, channels, copy);
    return {copy - (r.y.begin * width + r.x.begin) * kBlock<T>, width * kBlock<T>, kBlock<T>};
  }

  const RoiAlignRegions& p_;
  const RoiAlignBlocks& blocks_;
};

// Calls offer(y, x, number along y, along x) for each sample of a bin, in order; those off the map, which
// count as zeros, are not inside and come once in place of many.
template <class T, class Offer>
GCV_HD void for_each_sample(const RoiPlace<T>& place, int64_t ph, int64_t pw, int64_t height, int64_t width,
                            const Offer& offer) {
  const RoiSampleRange ys = roi_samples_near(place.y, ph, height), xs = roi_samples_near(place.x, pw, width);
  const int64_t y_count = int64_t(place.y.count), x_count = int64_t(place.x.count);
  if (y_count == 0 || x_count == 0) return;
  const RoiSample<T> off{};
  if (ys.first > 0) offer(off, off, int64_t(0), int64_t(0));
  for (int64_t iy = ys.first; iy < ys.last; ++iy) {
    const RoiSample<T> y = roi_sample(place.y, ph, iy, height);
    if (!y.inside || xs.first > 0) offer(off, off, int64_t(0), int64_t(0));
    if (!y.inside) continue;
    for (int64_t ix = xs.first; ix < xs.last; ++ix) {
      const RoiSample<T> x = roi_sample(place.x, pw, ix, width);
      offer(x.inside ? y : off, x, iy, ix);
    }
    if (xs.last < x_count) offer(off, off, int64_t(0), int64_t(0));
  }
  if (ys.last < y_count || ys.first == ys.last) offer(off, off, int64_t(0), int64_t(0));
}

}  // namespace
}  // namespace gcv::GCV_ISA
