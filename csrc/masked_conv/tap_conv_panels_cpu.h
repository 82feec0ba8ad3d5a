// How a convolution over taps is cut into panels of output channels, and their sums into segments. Only
// *_cpu.cpp files of the room include this.
#pragma once

#include "common/gemm_pack.h"
#include "masked_conv/tap_conv.h"

namespace gcv::GCV_ISA {
namespace {

GCV_HD int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
GCV_HD int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Elements in the type that is computed in.
template <class Element_>
struct WidePath {
  using Element = Element_;
  using Sum = ComputeOf<Element>;
  using Kept = Sum;  // what bands and panels hold
  static constexpr int64_t kRows = kGemmRows, kColumns = kPanel<Sum>, kDepth = 1;
};

// bf16 in pairs.
struct PairPath {
  using Element = BFloat16;
  using Sum = float;
  using Kept = BFloat16;
  static constexpr int64_t kRows = kPairRows, kColumns = kPairColumns, kDepth = kPairDepth;
};

GCV_HD int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

// Channels [first, last) of a group; `offset` is that of the panel among the packed weights.
struct Panel {
  int64_t first, last;
  const ConvGroup* group;
  int64_t offset;
};

// A range of input channels ends inside a block of `kDepth`. Then a pixel has a copy of the block with zeros
// for what may not be seen: hidden numbers, NaN among them, are not multiplied.
struct PartBlocks {
  static constexpr int kMost = 16;
  struct Range {
    int64_t begin, end;
  };
  Range ranges[kMost];
  int count = 0;
  bool fit = true;

  int index_of(int64_t begin, int64_t end) const {
    for (int i = 0; i < count; ++i) {
      if (ranges[i].begin == begin && ranges[i].end == end) return i;
    }
    return -1;
  }

  void add(int64_t begin, int64_t end) {
    if (index_of(begin, end) >= 0) return;
    if (count == kMost) {
      fit = false;
    } else {
      ranges[count++] = {begin, end};
    }
  }
};

// Calls run(begin, end, whether the block is a copy) for each block of the tap's channels.
template <int64_t kDepth, class Run>
GCV_HD void for_each_block(const ConvTap& tap, int64_t channels, const Run& run) {
  for (int64_t begin = tap.begin; begin < tap.end;) {
    const int64_t first = begin / kDepth * kDepth, end = least(tap.end, first + kDepth);
    run(begin, end, begin != first || (end != first + kDepth && end != channels));
    begin = end;
  }
}

template <int64_t kDepth>
PartBlocks part_blocks(const TapConvParams& p) {
  PartBlocks parts;
  if constexpr (kDepth > 1) {
    for (int64_t g = 0; g < p.group_count; ++g) {
      for (int64_t t = 0; t < p.groups[g].tap_count; ++t) {
        for_each_block<kDepth>(p.groups[g].taps[t], p.in_channels,
                               [&](int64_t begin, int64_t end, bool part) {
                                 if (part) parts.add(begin, end);
                               });
      }
    }
  }
  return parts;
}

// Rows of B that the tap takes.
template <class Path>
GCV_HD int64_t depth_of(const ConvTap& tap) {
  if (tap.begin >= tap.end) return 0;
  return round_up(tap.end, Path::kDepth) - tap.begin / Path::kDepth * Path::kDepth;
}

template <class Path>
GCV_HD int64_t depth_of(const ConvGroup& group) {
  int64_t depth = 0;
  for (int64_t t = 0; t < group.tap_count; ++t) depth += depth_of<Path>(group.taps[t]);
  return depth;
}

// Panels end where a group does. Those of a gate's halves are alike: they also end where a group does in the
// other.
template <class Path, class Run>
GCV_HD void for_each_panel(const ConvGroup* groups, int64_t group_count, int64_t channels, int64_t half,
                           const Run& run) {
  int64_t offset = 0;
  for (int64_t first = 0; first < channels;) {
    const int64_t within = first % half;
    int64_t last = first - within + least(half, within + Path::kColumns);
    const ConvGroup* own = groups;
    for (int64_t g = 0; g < group_count; ++g) {
      if (groups[g].first <= first && first < groups[g].last) own = &groups[g];
      for (int64_t edge = groups[g].last % half; edge < channels; edge += half) {
        if (edge > first && edge < last) last = edge;
      }
    }
    run(Panel{first, last, own, offset});
    offset += depth_of<Path>(*own) * Path::kColumns;
    first = last;
  }
}

template <class Path, class Run>
GCV_HD void for_each_panel(const TapConvParams& p, const Run& run) {
  const int64_t half = p.epilogue == ConvEpilogue::gate ? p.out_channels / 2 : p.out_channels;
  for_each_panel<Path>(p.groups, p.group_count, p.out_channels, half, run);
}

template <class Path, class Run>
GCV_HD void for_each_panel(const TapConvWeightParams& p, const Run& run) {
  for_each_panel<Path>(p.groups, p.group_count, p.out_channels, p.out_channels, run);
}

template <class Path, class Params>
int64_t count_panels(const Params& p) {
  int64_t count = 0;
  for_each_panel<Path>(p, [&](const Panel&) { ++count; });
  return count;
}

template <class Path, class Params>
Panel panel_at(const Params& p, int64_t index) {
  Panel found{};
  for_each_panel<Path>(p, [&](const Panel& panel) {
    if (index-- == 0) found = panel;
  });
  return found;
}

// Of all panels.
template <class Path, class Params>
int64_t packed_elements(const Params& p) {
  int64_t elements = 0;
  for_each_panel<Path>(p, [&](const Panel& at) { elements += depth_of<Path>(*at.group) * Path::kColumns; });
  return elements;
}

// How far taps reach.
struct Reach {
  int64_t up = 0, down = 0, left = 0, right = 0;
};

static inline Reach reach_of(const ConvGroup* groups, int64_t group_count) {
  Reach reach;
  for (int64_t g = 0; g < group_count; ++g) {
    for (int64_t t = 0; t < groups[g].tap_count; ++t) {
      const ConvTap& tap = groups[g].taps[t];
      reach.up = most(reach.up, -tap.dy);
      reach.down = most(reach.down, tap.dy);
      reach.left = most(reach.left, -tap.dx);
      reach.right = most(reach.right, tap.dx);
    }
  }
  return reach;
}

// Rows of a tile a power of two apart would share the sets of the cache.
template <class T>
GCV_HD int64_t spread(int64_t row) {
  return row * int64_t(sizeof(T)) % 2048 == 0 ? row + 64 / int64_t(sizeof(T)) : row;
}

}  // namespace
}  // namespace gcv::GCV_ISA
