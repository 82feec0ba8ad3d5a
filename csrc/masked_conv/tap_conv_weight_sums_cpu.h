// Sums of the gradient of the weights, in the order of packed weights, and what they become. Only *_cpu.cpp
// files of the room include this.
#pragma once

#include "common/gemm_pack.h"
#include "common/workspace.h"
#include "masked_conv/tap_conv_maps_cpu.h"
#include "masked_conv/tap_conv_panels_cpu.h"

namespace gcv::GCV_ISA {
namespace {

constexpr int64_t kLaidOutBytes = int64_t(16) << 20;  // of images at a time

template <class Element>
struct WeightSums {
  using T = ComputeOf<Element>;
  using Path = WidePath<Element>;

  WeightSums(const TapConvWeightParams& params, Workspace& workspace) : p(params) {
    sums = workspace.take<T>(packed_elements<Path>(p));
  }

  // Calls run(tap, begin, end, their sums) for each tap that sees some of the tile's input channels.
  template <class Run>
  void for_each_tap(const Panel& panel, int64_t first, int64_t rows, const Run& run) const {
    T* of_tap = sums + panel.offset;
    for (int64_t t = 0; t < panel.group->tap_count; ++t) {
      const ConvTap& tap = panel.group->taps[t];
      const int64_t begin = most(first, tap.begin), end = least(first + rows, tap.end);
      if (begin < end) run(tap, begin, end, of_tap + (begin - tap.begin) * Path::kColumns);
      of_tap += most(0, tap.end - tap.begin) * Path::kColumns;
    }
  }

  // Zero where nothing is seen.
  void write(const Panel& panel) const {
    for (int64_t o = panel.first; o < panel.last; ++o) {
      Element* target = static_cast<Element*>(p.grad_weight) + o * p.weight_out;
      for (int64_t c = 0; c < p.in_channels; ++c) {
        for (int64_t place = 0; place < p.places; ++place) narrow(T(0), target[c * p.weight_in + place]);
      }
      const T* sum = sums + panel.offset + (o - panel.first);
      for (int64_t t = 0; t < panel.group->tap_count; ++t) {
        const ConvTap& tap = panel.group->taps[t];
        for (int64_t c = tap.begin; c < tap.end; ++c, sum += Path::kColumns)
          narrow(*sum, target[c * p.weight_in + tap.weight]);
      }
    }
  }

  const TapConvWeightParams& p;
  T* sums;
};

template <class Element>
GCV_HD MapRow<const Element> map_row(const ConvMaps& maps, int64_t image, int64_t y) {
  return {static_cast<const Element*>(maps.data) + image * maps.strides[0] + y * maps.strides[2],
          maps.strides[1], maps.strides[3]};
}

}  // namespace
}  // namespace gcv::GCV_ISA
