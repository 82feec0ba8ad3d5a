// What each tap of a masked convolution shows of the pixel that it reads. Free of torch.
#pragma once

#include <cstdint>

#include "common/hd.h"

namespace gcv {

// Colours are equal blocks of channels.
enum class TapRule : int64_t { hidden, all, earlier_colours, not_later_colours };

// A kernel's taps and how its channels are coloured: output channels are `halves` times `colours` blocks,
// input channels `colours` blocks. Output pixel (y, x) sees through tap (i, j) pixel (y + tap_row(i), x +
// tap_column(j)).
struct MaskGeometry {
  const int64_t* taps;  // kernel_height * kernel_width rules
  int64_t kernel_height, kernel_width;
  int64_t colours, halves;
  int64_t dilation[2], shift[2];
};

GCV_HD int64_t tap_row(const MaskGeometry& m, int64_t tap) {
  return (tap / m.kernel_width - m.kernel_height / 2) * m.dilation[0] - m.shift[0];
}

GCV_HD int64_t tap_column(const MaskGeometry& m, int64_t tap) {
  return (tap % m.kernel_width - m.kernel_width / 2) * m.dilation[1] - m.shift[1];
}

struct ChannelRange {
  int64_t begin, end;
};

// Of `blocks` blocks that lie behind each other in `channels`.
GCV_HD ChannelRange block_of(int64_t block, int64_t blocks, int64_t channels) {
  return {block * (channels / blocks), (block + 1) * (channels / blocks)};
}

// The input channels that an output channel of `colour` sees.
GCV_HD int64_t seen_channels(TapRule rule, int64_t colour, int64_t colours, int64_t in_channels) {
  switch (rule) {
    case TapRule::hidden:
      return 0;
    case TapRule::all:
      return in_channels;
    case TapRule::earlier_colours:
      return colour * (in_channels / colours);
    default:
      return (colour + 1) * (in_channels / colours);
  }
}

// Kernels hold so many taps that show something.
inline constexpr int64_t kMostTaps = 512;

}  // namespace gcv
