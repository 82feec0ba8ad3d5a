// The gradient of the weights of bf16 by pairs: rows of a tile are planes of the padded input, shifted by the
// tap, and the sum runs over all pixels of an image, those of the padding among them, where the gradient is
// zero. Only *_cpu.cpp files of the room include this.
#pragma once

#include "masked_conv/tap_conv_weight_sums_cpu.h"

namespace gcv::GCV_ISA {
namespace {

class PairWeightGradient {
  using Sums = WeightSums<BFloat16>;
  static constexpr int64_t kBlock = kPairRows;  // of channels

 public:
  PairWeightGradient(const TapConvWeightParams& p, void* memory)
      : p_(p), workspace_(memory), sums_(p, workspace_), reach_(reach_of(p.groups, p.group_count)) {
    row_ = round_up(p.width + reach_.left + reach_.right, 2);
    depth_ = round_up(p.height * row_, kPairDepth);
    plane_ = spread<BFloat16>((reach_.up + reach_.down + 1) * row_ + depth_);
    panels_ = count_panels<Sums::Path>(p);
    // The last row of pairs is filled up with zeros.
    grad_panel_ = (depth_ + kPairDepth) * kPairColumns;
    grad_image_ = panels_ * grad_panel_;
    const int64_t bytes = (p.in_channels * plane_ + grad_image_) * int64_t(sizeof(BFloat16));
    images_ = most(1, least(p.images, kLaidOutBytes / most(1, bytes)));
    input_ = workspace_.take<BFloat16>(images_ * p.in_channels * plane_);
    grad_ = workspace_.take<BFloat16>(images_ * grad_image_);
  }

  int64_t images() const { return images_; }
  size_t bytes() const { return workspace_.used(); }
  int64_t slices() const { return tiles() + panels_; }
  int64_t parts() const { return panels_ * tiles(); }

  void lay_out(int64_t first, int64_t slice) const {
    const int64_t place = slice / slices(), i = slice % slices();
    if (i < tiles()) {
      lay_out_input(first + place, place, i * kBlock);
    } else {
      lay_out_grad(first + place, place, i - tiles());
    }
  }

  void sum(int64_t first, int64_t begin, int64_t end) const {
    const int64_t images = least(images_, p_.images - first);
    for (int64_t place = 0; place < images; ++place) {
      for (int64_t part = begin; part < end; ++part) add_image(place, part, first + place > 0);
    }
  }

  void write(int64_t panel) const { sums_.write(panel_at<Sums::Path>(p_, panel)); }

 private:
  int64_t tiles() const { return (p_.in_channels + kBlock - 1) / kBlock; }

  void lay_out_input(int64_t image, int64_t place, int64_t first) const {
    const int64_t channels = least(kBlock, p_.in_channels - first);
    BFloat16* planes = input_ + (place * p_.in_channels + first) * plane_;
    memset(static_cast<void*>(planes), 0, size_t(channels * plane_) * sizeof(BFloat16));
    for (int64_t y = 0; y < p_.height; ++y) {
      const auto from = map_row<BFloat16>(p_.input, image, y);
      copy_planes({from.data + first * from.channel, from.channel, from.pixel}, channels,
                  planes + (y + reach_.up) * row_ + reach_.left);
    }
  }

  void copy_planes(const MapRow<const BFloat16>& from, int64_t channels, BFloat16* to) const {
    if (from.channel == 1 && from.pixel != 1) {
      // Pixels take the part of channels, and channels that of pixels.
      for (int64_t x = 0; x < p_.width; x += kBlock) {
        const MapRow<const BFloat16> corner{from.data + x * from.pixel, from.pixel, 1};
        turn_square(corner, least(kBlock, p_.width - x), channels, to + x, plane_);
      }
      return;
    }
    for (int64_t c = 0; c < channels; ++c)
      copy_channels(from.data + c * from.channel, from.pixel, p_.width, to + c * plane_);
  }

  void lay_out_grad(int64_t image, int64_t place, int64_t index) const {
    const Panel panel = panel_at<Sums::Path>(p_, index);
    BFloat16* pairs = grad_ + place * grad_image_ + index * grad_panel_;
    memset(static_cast<void*>(pairs), 0, size_t(grad_panel_) * sizeof(BFloat16));
    for (int64_t y = 0; y < p_.height; ++y) {
      const auto from = map_row<BFloat16>(p_.grad, image, y);
      pack_pairs({from.data + panel.first * from.channel, from.pixel, from.channel}, p_.width,
                 panel.last - panel.first, pairs + y * row_ * kPairColumns);
    }
  }

  void add_image(int64_t place, int64_t part, bool adds) const {
    const int64_t index = part / tiles(), first = part % tiles() * kBlock;
    const BFloat16* grad = grad_ + place * grad_image_ + index * grad_panel_;
    const Panel panel = panel_at<Sums::Path>(p_, index);
    sums_.for_each_tap(
        panel, first, kBlock, [&](const ConvTap& tap, int64_t begin, int64_t end, float* sums) {
          const BFloat16* input = input_ + (place * p_.in_channels + begin) * plane_;
          const GemmSegment all{(tap.dy + reach_.up) * row_ + tap.dx + reach_.left, 0, depth_};
          multiply_({input, plane_, grad, {&all, 1}, sums, kPairColumns, int(end - begin), adds});
        });
  }

  const TapConvWeightParams& p_;
  const GemmPairs multiply_;
  Workspace workspace_;
  Sums sums_;
  Reach reach_;
  int64_t row_, depth_, plane_, panels_, grad_panel_, grad_image_, images_;
  BFloat16 *input_, *grad_;
};

}  // namespace
}  // namespace gcv::GCV_ISA
