// Blocks of cells as arrays over which loops vectorise. Only *_cpu.cpp files include this.
#pragma once

#include <type_traits>

#include "common/dtype_arrays.h"
#include "yolo/yolo_maths.h"

namespace gcv {
namespace {

inline constexpr int kLane = int(kYoloBlock);
inline constexpr int kNear = 16;  // cells of one line of memory

// Neighbouring cells of one image's level.
template <class Element>
class CellReader {
  using T = typename Compute<Element>::type;

 public:
  CellReader(const YoloLevel& level, int64_t image)
      : map_(static_cast<const Element*>(level.map) + image * level.strides[0]),
        channel_stride_(level.strides[1]),
        row_stride_(level.strides[2]),
        cell_stride_(level.width == 1 ? level.strides[2] : level.strides[3]),
        width_(level.width),
        flat_(level.width == 1 || level.height == 1 || row_stride_ == level.width * cell_stride_) {}

  // N values of a channel from `cell` on: where they lie, or in `buffer`. Those past `count` say nothing.
  template <int N>
  const T* read(int64_t channel, int64_t cell, int64_t count, T (&buffer)[N]) const {
    const T* found = peek(channel, cell, count, buffer);
    if (count == N) return found;
    if (found != buffer) memcpy(buffer, found, size_t(count) * sizeof(T));
    for (int64_t i = count; i < N; ++i) buffer[i] = T(0);
    return buffer;
  }

  // As `read`, but only up to the next multiple of kNear; what lies where it is wanted is not copied.
  template <int N>
  const T* peek(int64_t channel, int64_t cell, int64_t count, T (&buffer)[N]) const {
    if constexpr (std::is_same<Element, T>::value) {
      if (flat_ && cell_stride_ == 1 && count % kNear == 0) return map_ + channel * channel_stride_ + cell;
    }
    copy(channel, cell, count, buffer);
    for (int64_t i = count; i % kNear != 0; ++i) buffer[i] = T(0);
    return buffer;
  }

  const Element* at(int64_t channel, int64_t cell) const {
    const int64_t row = cell / width_;
    return map_ + channel * channel_stride_ +
           (flat_ ? cell * cell_stride_ : row * row_stride_ + (cell - row * width_) * cell_stride_);
  }

 private:
  void copy(int64_t channel, int64_t cell, int64_t count, T* to) const {
    const Element* from = map_ + channel * channel_stride_;
    if (!flat_) {
      copy_rows(from, cell, count, to);
    } else if (cell_stride_ == 1) {
      widen_all(from + cell, count, to);
    } else {
      for (int64_t i = 0; i < count; ++i) to[i] = widen(from[(cell + i) * cell_stride_]);
    }
  }

  void copy_rows(const Element* from, int64_t cell, int64_t count, T* to) const {
    int64_t row = cell / width_, column = cell - row * width_;
    for (int64_t i = 0; i < count; ++i) {
      to[i] = widen(from[row * row_stride_ + column * cell_stride_]);
      if (++column < width_) continue;
      column = 0;
      ++row;
    }
  }

  const Element* map_;
  int64_t channel_stride_, row_stride_, cell_stride_, width_;
  bool flat_;
};

// What a block of boxes needs besides the network's outputs, a box for each lane.
template <class T>
struct LaneGeometry {
  T column[kLane] = {}, row[kLane] = {}, stride[kLane] = {}, unit[2][kLane] = {};

  void set(int lane, const YoloMaps& m, const YoloLevel& level, int64_t anchor, int64_t cell_row,
           int64_t cell_column) {
    column[lane] = T(cell_column);
    row[lane] = T(cell_row);
    stride[lane] = T(level.stride);
    if (m.version == YoloVersion::v8) return;
    unit[0][lane] = yolo_unit<T>(m, level, anchor, 0);
    unit[1][lane] = yolo_unit<T>(m, level, anchor, 1);
  }
};

template <class T>
struct LaneBoxes {
  T side[4][kLane];  // x1, y1, x2, y2
};

// Weights of a distribution's bins in `bins`; their sum and that of bin times weight.
template <class T, class Source>
void read_distribution(const Source& source, int64_t first, int reg_max, T (&bins)[kYoloMostBins][kLane],
                       T (&total)[kLane], T (&moment)[kLane]) {
  T most[kLane];
  for (int b = 0; b < reg_max; ++b) {
    source.read(first + b, bins[b]);
    for (int i = 0; i < kLane; ++i) most[i] = b == 0 ? bins[b][i] : larger(most[i], bins[b][i]);
  }
  for (int i = 0; i < kLane; ++i) total[i] = moment[i] = T(0);
  for (int b = 0; b < reg_max; ++b) {
    for (int i = 0; i < kLane; ++i) yolo_add_bin(bins[b][i], most[i], T(b), total[i], moment[i]);
  }
}

// `source.read(c, T (&)[kLane])` gives channel c of each lane's box, counted from the box's first.
template <YoloVersion kVersion, class T, class Source>
void decode_lanes(const YoloMaps& m, const Source& source, const LaneGeometry<T>& g, LaneBoxes<T>& out) {
  if constexpr (kVersion == YoloVersion::v8) {
    T bins[kYoloMostBins][kLane], total[kLane], moment[kLane];
    for (int side = 0; side < 4; ++side) {
      read_distribution(source, side * m.reg_max, int(m.reg_max), bins, total, moment);
      const T* cell = side % 2 == 0 ? g.column : g.row;
      for (int i = 0; i < kLane; ++i) {
        const T distance = exact::div(moment[i], total[i]);
        out.side[side][i] = side < 2 ? yolo_low_side(cell[i], distance, g.stride[i])
                                     : yolo_high_side(cell[i], distance, g.stride[i]);
      }
    }
  } else {
    T centre[kLane], length[kLane];
    for (int axis = 0; axis < 2; ++axis) {
      source.read(axis, centre);
      source.read(2 + axis, length);
      const T* cell = axis == 0 ? g.column : g.row;
      for (int i = 0; i < kLane; ++i) {
        yolo_interval(yolo_centre(kVersion, centre[i], cell[i], g.stride[i]),
                      yolo_length(kVersion, length[i], g.unit[axis][i]), out.side[axis][i],
                      out.side[2 + axis][i]);
      }
    }
  }
}

template <class Function>
void with_version(YoloVersion version, const Function& function) {
  switch (version) {
    case YoloVersion::v1:
      return function(std::integral_constant<YoloVersion, YoloVersion::v1>());
    case YoloVersion::v2:
      return function(std::integral_constant<YoloVersion, YoloVersion::v2>());
    case YoloVersion::v3:
      return function(std::integral_constant<YoloVersion, YoloVersion::v3>());
    case YoloVersion::v5:
      return function(std::integral_constant<YoloVersion, YoloVersion::v5>());
    case YoloVersion::v8:
      return function(std::integral_constant<YoloVersion, YoloVersion::v8>());
  }
}

// Neighbouring cells of an image's level, and one of their boxes each.
struct CellBlock {
  const YoloLevel* level;
  int64_t image, anchor, cell, count;

  // Block `index` of batch * yolo_blocks(m).
  static CellBlock of(const YoloMaps& m, int64_t index) {
    const int64_t per_image = yolo_blocks(m);
    CellBlock b{m.levels, index / per_image, 0, 0, 0};
    int64_t rest = index % per_image;
    for (;; ++b.level) {
      const int64_t cells = yolo_cells(*b.level), blocks = (cells + kYoloBlock - 1) / kYoloBlock;
      if (rest >= blocks * yolo_anchor_tasks(m)) {
        rest -= blocks * yolo_anchor_tasks(m);
        continue;
      }
      b.anchor = rest / blocks;
      b.cell = rest % blocks * kYoloBlock;
      b.count = smaller(kYoloBlock, cells - b.cell);
      return b;
    }
  }

  // The first of the boxes, of an anchor.
  int64_t box(int64_t of_anchor) const { return level->first_box + of_anchor * yolo_cells(*level) + cell; }

  template <class T>
  void set_geometry(const YoloMaps& m, int64_t of_anchor, LaneGeometry<T>& g) const {
    int64_t row = cell / level->width, column = cell - row * level->width;
    for (int i = 0; i < count; ++i) {
      g.set(i, m, *level, of_anchor, row, column);
      if (++column < level->width) continue;
      column = 0;
      ++row;
    }
  }
};

// The channels of a block's boxes.
template <class Element>
struct BlockSource {
  using T = typename Compute<Element>::type;
  CellReader<Element> cells;
  int64_t first_channel, cell, count;

  void read(int64_t channel, T (&to)[kLane]) const {
    const T* from = cells.read(first_channel + channel, cell, count, to);
    if (from != to) memcpy(to, from, sizeof to);
  }
};

}  // namespace
}  // namespace gcv
