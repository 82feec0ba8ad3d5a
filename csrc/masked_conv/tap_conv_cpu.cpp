// An implicit product: rows are pixels of a band that is copied once, padded and with channels beside each
// other, and segments are taps. Taps that no pixel sees are in no segment. A panel of output channels stays
// in the cache for the whole band, and each sum is written once, with its epilogue.
#include "common/gemm_pairs.h"
#include "common/workspace.h"
#include "masked_conv/tap_conv.h"
#include "masked_conv/tap_conv_epilogue_cpu.h"
#include "masked_conv/tap_conv_maps_cpu.h"
#include "masked_conv/tap_conv_pack_cpu.h"
#include "masked_conv/tap_conv_panels_cpu.h"

namespace gcv::GCV_ISA {
namespace {

constexpr int64_t kPixels = 96;  // that are finished together: whole tiles and whole vectors of them
constexpr int64_t kBandBytes = int64_t(1) << 18, kMostBandRows = 8;

template <class Path>
class TapConv {
  using Element = typename Path::Element;
  using Kept = typename Path::Kept;
  using Sum = typename Path::Sum;

 public:
  TapConv(const TapConvParams& p, const void* packed, void* scratch)
      : p_(p),
        packed_(static_cast<const Kept*>(packed)),
        reach_(reach_of(p.groups, p.group_count)),
        parts_(part_blocks<Path::kDepth>(p)) {
    main_channels_ = round_up(p.in_channels, most(Path::kDepth, kLanes<Sum>));
    pixel_ = spread<Kept>(main_channels_ + parts_.count * Path::kDepth);
    row_ = (p.width + reach_.left + reach_.right) * pixel_;
    band_rows_ = band_rows();
    Workspace memory(scratch);
    band_ = memory.take<Kept>((band_rows_ + reach_.up + reach_.down) * row_);
    for (Sum*& sums : sums_) sums = memory.take<Sum>(kPixels * Path::kColumns);
    if (Path::kDepth > 1) rounded_ = memory.take<Element>(kPixels * Path::kColumns);
    int64_t taps = 0;
    for (int64_t g = 0; g < p.group_count; ++g) taps += p.groups[g].tap_count + 1;
    segments_ = memory.take<GemmSegment>(3 * taps);
    starts_ = memory.take<int64_t>(taps);
    bytes_ = memory.used();
    if (scratch != nullptr) find_segments();
  }

  size_t bytes() const { return bytes_; }
  int64_t bands() const { return p_.images * bands_of_image(); }

  void run(int64_t item) {
    const int64_t bands = bands_of_image(), image = item / bands, band = item % bands;
    top_ = band * p_.height / bands;
    bottom_ = (band + 1) * p_.height / bands;
    image_ = image;
    copy_band();
    const bool gated = p_.epilogue == ConvEpilogue::gate;
    // A gate's second half has panels like those of the first, in the same order.
    const int64_t panels = count_panels<Path>(p_) / (gated ? 2 : 1);
    for (int64_t i = 0; i < panels; ++i) {
      const Panel panel = panel_at<Path>(p_, i);
      if (gated) {
        run_panel(panel, panel_at<Path>(p_, panels + i));
      } else {
        run_panel(panel, panel);
      }
    }
  }

 private:
  int64_t band_rows() const {
    const int64_t fitting = kBandBytes / (row_ * int64_t(sizeof(Kept)));
    return least(least(p_.height, kMostBandRows), most(1, fitting));
  }

  int64_t bands_of_image() const { return (p_.height + band_rows_ - 1) / band_rows_; }

  // In the order of taps, and so of rows: the taps of a row above or below the image are the first or the
  // last.
  void find_segments() {
    int64_t count = 0, tap_index = 0;
    for (int64_t g = 0; g < p_.group_count; ++g) {
      int64_t depth = 0;
      for (int64_t t = 0; t < p_.groups[g].tap_count; ++t) {
        const ConvTap& tap = p_.groups[g].taps[t];
        const int64_t pixel = (tap.dy + reach_.up) * row_ + (tap.dx + reach_.left) * pixel_;
        starts_[tap_index++] = count;
        if constexpr (Path::kDepth == 1) {
          if (tap.begin < tap.end)
            segments_[count++] = {pixel + tap.begin, depth * Path::kColumns, depth_of<Path>(tap)};
          depth += depth_of<Path>(tap);
        } else {
          bool joins = false;
          for_each_block<Path::kDepth>(tap, p_.in_channels, [&](int64_t begin, int64_t end, bool part) {
            if (!part && joins) {
              segments_[count - 1].k += Path::kDepth;
            } else {
              const int64_t at = part ? main_channels_ + parts_.index_of(begin, end) * Path::kDepth : begin;
              segments_[count++] = {pixel + at, depth * Path::kColumns, Path::kDepth};
            }
            joins = !part;
            depth += Path::kDepth;
          });
        }
      }
      starts_[tap_index++] = count;
    }
  }

  // Of the taps that see rows of the image from row y.
  GemmSegments segments_of(const ConvGroup* group, int64_t y) const {
    const int64_t* starts = starts_;
    for (const ConvGroup* g = p_.groups; g != group; ++g) starts += g->tap_count + 1;
    int64_t first = 0, last = group->tap_count;
    while (first < last && y + group->taps[first].dy < 0) ++first;
    while (first < last && y + group->taps[last - 1].dy >= p_.height) --last;
    return {segments_ + starts[first], starts[last] - starts[first]};
  }

  void copy_band() const {
    const int64_t (&strides)[4] = p_.input.strides;
    const auto* image = static_cast<const Element*>(p_.input.data) + image_ * strides[0];
    const int64_t first = most(0, top_ - reach_.up), last = least(p_.height, bottom_ + reach_.down);
    for (int64_t y = first; y < last; ++y) {
      Kept* row = band_ + (y - top_ + reach_.up) * row_;
      memset(static_cast<void*>(row), 0, size_t(reach_.left * pixel_) * sizeof(Kept));
      Kept* pixels = row + reach_.left * pixel_;
      pixels_of<Element, Kept>({image + y * strides[2], strides[1], strides[3]}, p_.in_channels, p_.width,
                               pixels, pixel_);
      if constexpr (Path::kDepth > 1) finish_pixels(pixels);
      memset(static_cast<void*>(pixels + p_.width * pixel_), 0, size_t(reach_.right * pixel_) * sizeof(Kept));
    }
  }

  // Zeros behind the channels, and the blocks that are seen in part.
  void finish_pixels(Kept* pixels) const {
    if (pixel_ == p_.in_channels) return;
    for (int64_t x = 0; x < p_.width; ++x) {
      Kept* pixel = pixels + x * pixel_;
      memset(static_cast<void*>(pixel + p_.in_channels), 0, size_t(pixel_ - p_.in_channels) * sizeof(Kept));
      for (int i = 0; i < parts_.count; ++i) {
        const PartBlocks::Range& range = parts_.ranges[i];
        memcpy(pixel + main_channels_ + i * Path::kDepth + range.begin % Path::kDepth, pixel + range.begin,
               size_t(range.end - range.begin) * sizeof(Kept));
      }
    }
  }

  void run_panel(const Panel& panel, const Panel& partner) {
    for (int64_t y = top_; y < bottom_; ++y) {
      const GemmSegments segments = segments_of(panel.group, y), others = segments_of(partner.group, y);
      for (int64_t x = 0; x < p_.width; x += kPixels) {
        const int64_t pixels = least(kPixels, p_.width - x);
        sum_pixels(panel, segments, y, x, pixels, sums_[0]);
        if (p_.epilogue == ConvEpilogue::gate) sum_pixels(partner, others, y, x, pixels, sums_[1]);
        finish(panel, y, x, pixels);
      }
    }
  }

  void sum_pixels(const Panel& panel, const GemmSegments& segments, int64_t y, int64_t x, int64_t pixels,
                  Sum* sums) const {
    const Kept* first = band_ + (y - top_) * row_ + x * pixel_;
    for (int64_t i = 0; i < pixels; i += Path::kRows) {
      const int rows = int(least(Path::kRows, pixels - i));
      const Kept *a = first + i * pixel_, *b = packed_ + panel.offset;
      Sum* c = sums + i * Path::kColumns;
      if constexpr (Path::kDepth == 1) {
        GCV_ISA::gemm_tile(GemmTile<Sum>{{a, pixel_, 1},
                                         b,
                                         Path::kColumns,
                                         segments,
                                         c,
                                         Path::kColumns,
                                         rows,
                                         vectors_for<Sum>(panel.last - panel.first),
                                         false});
      } else {
        multiply_({a, pixel_, b, segments, c, Path::kColumns, rows, false});
      }
    }
    add_biases<Path>(p_, panel, {image_, y, x, pixels}, sums);
  }

  void finish(const Panel& panel, int64_t y, int64_t x, int64_t pixels) {
    const int64_t numbers = pixels * Path::kColumns;
    switch (p_.epilogue) {
      case ConvEpilogue::gate:
        gate_all(sums_[0], sums_[1], numbers);
        break;
      case ConvEpilogue::relu:
        relu(sums_[0], numbers);
        break;
      case ConvEpilogue::elu:
        elu(sums_[0], numbers);
        break;
      case ConvEpilogue::concat_elu:
        negate(sums_[0], numbers, sums_[1]);
        elu(sums_[0], numbers);
        elu(sums_[1], numbers);
        write(panel.first + p_.out_channels, panel, y, x, pixels, sums_[1]);
        break;
      default:
        break;
    }
    write(panel.first, panel, y, x, pixels, sums_[0]);
  }

  void write(int64_t channel, const Panel& panel, int64_t y, int64_t x, int64_t pixels,
             const Sum* sums) const {
    const int64_t (&strides)[4] = p_.output.strides;
    auto* target = static_cast<Element*>(p_.output.data) + image_ * strides[0] + channel * strides[1];
    target += y * strides[2] + x * strides[3];
    const MapRow<Element> row{target, strides[1], strides[3]};
    if constexpr (Path::kDepth == 1) {
      pixels_to<Element>(sums, Path::kColumns, panel.last - panel.first, pixels, row);
    } else {
      multiply_.narrow(sums, pixels * Path::kColumns, rounded_);
      narrowed_to(rounded_, Path::kColumns, panel.last - panel.first, pixels, row);
    }
  }

  const TapConvParams& p_;
  const Kept* packed_;
  const GemmPairs multiply_;
  Reach reach_;
  PartBlocks parts_;
  int64_t main_channels_, pixel_, row_, band_rows_;
  Kept* band_;
  Sum* sums_[2];
  Element* rounded_;  // sums of pairs
  GemmSegment* segments_;
  int64_t* starts_;  // of each tap's segments, and where those of the group end
  size_t bytes_;
  int64_t top_, bottom_, image_;  // of the band
};

bool takes_pairs(const TapConvParams& p) {
  return p.dtype == DType::bf16 && has_gemm_pairs() && part_blocks<kPairDepth>(p).fit;
}

// Calls run(path) for the path that the product takes.
template <class Run>
auto by_path(const TapConvParams& p, const Run& run) {
  if (takes_pairs(p)) return run(PairPath{});
  switch (p.dtype) {
    case DType::f64:
      return run(WidePath<double>{});
    case DType::f16:
      return run(WidePath<Half>{});
    case DType::bf16:
      return run(WidePath<BFloat16>{});
    default:
      return run(WidePath<float>{});
  }
}

}  // namespace

size_t tap_conv_packed_bytes_cpu(const TapConvParams& p) {
  return by_path(p, [&](auto path) {
    using Path = decltype(path);
    return size_t(packed_elements<Path>(p)) * sizeof(typename Path::Kept);
  });
}

int64_t tap_conv_panels_cpu(const TapConvParams& p) {
  return by_path(p, [&](auto path) { return count_panels<decltype(path)>(p); });
}

void tap_conv_pack_cpu(const TapConvParams& p, void* packed, int64_t begin, int64_t end) {
  by_path(p, [&](auto path) { pack_panels<decltype(path)>(p, packed, begin, end); });
}

int64_t tap_conv_bands_cpu(const TapConvParams& p) {
  return by_path(p, [&](auto path) { return TapConv<decltype(path)>(p, nullptr, nullptr).bands(); });
}

size_t tap_conv_scratch_cpu(const TapConvParams& p) {
  return by_path(p, [&](auto path) { return TapConv<decltype(path)>(p, nullptr, nullptr).bytes(); });
}

void tap_conv_cpu(const TapConvParams& p, const void* packed, void* scratch, int64_t begin, int64_t end) {
  by_path(p, [&](auto path) {
    TapConv<decltype(path)> conv(p, packed, scratch);
    for (int64_t item = begin; item < end; ++item) conv.run(item);
  });
}

}  // namespace gcv::GCV_ISA
