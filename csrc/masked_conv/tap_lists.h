// Lists of taps that own their memory, and those of the gradient of the input. Free of torch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "masked_conv/tap_conv.h"

namespace gcv {

class TapLists {
 public:
  // Groups come in the order of their channels.
  void add_group(int64_t first, int64_t last, std::vector<ConvTap> taps) {
    std::sort(taps.begin(), taps.end(), [](const ConvTap& a, const ConvTap& b) {
      return a.dy != b.dy ? a.dy < b.dy : a.dx != b.dx ? a.dx < b.dx : a.begin < b.begin;
    });
    taps_.push_back(std::move(taps));
    groups_.push_back({first, last, taps_.back().data(), int64_t(taps_.back().size())});
  }

  const ConvGroup* data() const { return groups_.data(); }
  int64_t size() const { return int64_t(groups_.size()); }

  // An input channel receives from the output channels that see it, through the same weights.
  TapLists transposed(int64_t in_channels) const {
    std::vector<int64_t> edges{0, in_channels};
    for (const auto& taps : taps_) {
      for (const ConvTap& tap : taps) edges.insert(edges.end(), {tap.begin, tap.end});
    }
    std::sort(edges.begin(), edges.end());
    edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
    TapLists lists;
    for (size_t i = 0; i + 1 < edges.size(); ++i)
      lists.add_group(edges[i], edges[i + 1], receiving(edges[i], edges[i + 1]));
    return lists;
  }

  // Multiplications of an output pixel.
  int64_t products() const {
    int64_t count = 0;
    for (const ConvGroup& group : groups_) {
      for (int64_t t = 0; t < group.tap_count; ++t)
        count += (group.last - group.first) * (group.taps[t].end - group.taps[t].begin);
    }
    return count;
  }

 private:
  // Neighbouring groups that see the channels through the same place become one range.
  std::vector<ConvTap> receiving(int64_t first, int64_t last) const {
    std::vector<ConvTap> found;
    for (const ConvGroup& group : groups_) {
      for (int64_t t = 0; t < group.tap_count; ++t) {
        const ConvTap& tap = group.taps[t];
        if (tap.begin > first || tap.end < last) continue;
        const auto joins = [&](const ConvTap& other) {
          return other.weight == tap.weight && other.end == group.first;
        };
        const auto earlier = std::find_if(found.begin(), found.end(), joins);
        if (earlier != found.end()) {
          earlier->end = group.last;
        } else {
          found.push_back({-tap.dy, -tap.dx, tap.weight, group.first, group.last});
        }
      }
    }
    return found;
  }

  std::vector<std::vector<ConvTap>> taps_;
  std::vector<ConvGroup> groups_;
};

}  // namespace gcv
