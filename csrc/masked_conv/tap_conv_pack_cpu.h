// Weights in panels: of each tap that a panel sees, the channels that it sees. Only *_cpu.cpp files of the
// room include this.
#pragma once

#include "common/gemm_pack.h"
#include "masked_conv/tap_conv.h"
#include "masked_conv/tap_conv_maps_cpu.h"
#include "masked_conv/tap_conv_panels_cpu.h"

namespace gcv::GCV_ISA {
namespace {

// The weights of one place in the plane, of channels [begin, ...) of the input and [first, ...) of the
// output.
template <class Element>
GemmMatrix<Element> weights_at(const TapConvParams& p, int64_t place, int64_t begin, int64_t first) {
  const auto* weight = static_cast<const Element*>(p.weight);
  return {weight + place + begin * p.weight_in + first * p.weight_out, p.weight_in, p.weight_out};
}

template <class Element>
void pack_panel(WidePath<Element>, const TapConvParams& p, const Panel& at, ComputeOf<Element>* to) {
  using Path = WidePath<Element>;
  for (int64_t t = 0; t < at.group->tap_count; ++t) {
    const ConvTap& tap = at.group->taps[t];
    pack<Element>(weights_at<Element>(p, tap.weight, tap.begin, at.first), tap.end - tap.begin,
                  at.last - at.first, to, Path::kColumns, Path::kColumns);
    to += depth_of<Path>(tap) * Path::kColumns;
  }
}

// A block of input and output channels at neighbouring places of the plane, which lie beside each other in
// the weights: vectors of places become, place by place, vectors of channels.
class WeightPlanes {
 public:
  static constexpr int64_t kPlaces = kLanes<uint16_t>;

  // Places [place, end), or the first kPlaces of them.
  void turn(const TapConvParams& p, int64_t channel, int64_t first, int64_t place, int64_t end) {
    by_inputs_ = p.weight_in <= p.weight_out;
    const int64_t near = least(p.weight_in, p.weight_out), far = most(p.weight_in, p.weight_out);
    const BFloat16* from = weights_at<BFloat16>(p, place, channel, first).data;
    for (int64_t i = 0; i < kSide; ++i)
      turn_square({from + i * far, near, 1}, kSide, least(kPlaces, end - place), turned_ + i * kSide, kPlace);
  }

  // The place `index` places behind the first.
  void pack(int64_t index, BFloat16* block) const {
    const BFloat16* from = turned_ + index * kPlace;
    if (by_inputs_) {
      turn_columns(from, kSide, kSide, block);
    } else {
      zip_rows(from, kSide, kSide, block);
    }
  }

 private:
  static constexpr int64_t kSide = kPairDepth;
  static_assert(kSide == kPairColumns, "blocks are square");
  static constexpr int64_t kPlace = (kSide + 1) * kSide;  // a power of two would share the sets of the cache

  bool by_inputs_ = false;
  alignas(64) BFloat16 turned_[kPlaces * kPlace];
};

// Where a panel has all its columns, the blocks of channels that taps see whole.
static inline void pack_whole_blocks(const TapConvParams& p, const Panel& at, BFloat16* to) {
  WeightPlanes planes;
  const ConvGroup& group = *at.group;
  int64_t places = 0;
  for (int64_t t = 0; t < group.tap_count; ++t) places = most(places, group.taps[t].weight + 1);
  for (int64_t channel = 0; channel + kPairDepth <= p.in_channels; channel += kPairDepth) {
    for (int64_t first = 0; first < places; first += WeightPlanes::kPlaces) {
      bool turned = false;
      BFloat16* panel = to;
      for (int64_t t = 0; t < group.tap_count; ++t) {
        const ConvTap& tap = group.taps[t];
        const int64_t index = tap.weight - first;
        if (index >= 0 && index < WeightPlanes::kPlaces && tap.begin <= channel &&
            channel + kPairDepth <= tap.end) {
          if (!turned) planes.turn(p, channel, at.first, first, places);
          turned = true;
          planes.pack(index, panel + (channel - tap.begin / kPairDepth * kPairDepth) * kPairColumns);
        }
        panel += depth_of<PairPath>(tap) * kPairColumns;
      }
    }
  }
}

static inline void pack_panel(PairPath, const TapConvParams& p, const Panel& at, BFloat16* to) {
  const bool planes = least(p.weight_in, p.weight_out) > 1;
  const bool turns = kLanes<uint16_t> == kPairColumns && planes && at.last - at.first == kPairColumns;
  if (turns) pack_whole_blocks(p, at, to);
  for (int64_t t = 0; t < at.group->tap_count; ++t) {
    const ConvTap& tap = at.group->taps[t];
    for_each_block<kPairDepth>(tap, p.in_channels, [&](int64_t begin, int64_t end, bool) {
      const bool whole = end - begin == kPairDepth;
      const GemmMatrix<BFloat16> weights = weights_at<BFloat16>(p, tap.weight, begin, at.first);
      if (!whole) {
        pack_pair_block(weights, begin % kPairDepth, end - begin, at.last - at.first, to);
      } else if (!turns) {
        pack_pairs(weights, kPairDepth, at.last - at.first, to);
      }
      to += kPairDepth * kPairColumns;
    });
  }
}

template <class Path>
void pack_panels(const TapConvParams& p, void* packed, int64_t begin, int64_t end) {
  int64_t index = 0;
  for_each_panel<Path>(p, [&](const Panel& at) {
    const int64_t i = index++;
    if (begin <= i && i < end)
      pack_panel(Path{}, p, at, static_cast<typename Path::Kept*>(packed) + at.offset);
  });
}

}  // namespace
}  // namespace gcv::GCV_ISA
