// A product over pixels for the taps and channels that are seen, and no others: rows of a tile are input
// channels of the shifted input, columns are output channels of the gradient. Both are laid out with channels
// beside each other.
#include "masked_conv/tap_conv.h"
#include "masked_conv/tap_conv_weight_pairs_cpu.h"
#include "masked_conv/tap_conv_weight_sums_cpu.h"

namespace gcv::GCV_ISA {
namespace {

constexpr int64_t kBandBytes = int64_t(1) << 20;  // of rows that all parts of a thread share

template <class Element>
class WeightGradient {
  using Sums = WeightSums<Element>;
  using T = typename Sums::T;
  using Path = typename Sums::Path;

 public:
  WeightGradient(const TapConvWeightParams& p, void* memory)
      : p_(p), workspace_(memory), sums_(p, workspace_), reach_(reach_of(p.groups, p.group_count)) {
    pixel_ = spread<T>(round_up(p.in_channels, kLanes<T>));
    row_ = (p.width + reach_.left + reach_.right) * pixel_;
    image_ = (p.height + reach_.up + reach_.down) * row_;
    grad_pixel_ = spread<T>(round_up(p.out_channels + Path::kColumns, kLanes<T>));  // the last panel reads on
    grad_row_ = p.width * grad_pixel_;
    const int64_t bytes = (image_ + p.height * grad_row_) * int64_t(sizeof(T));
    images_ = most(1, least(p.images, kLaidOutBytes / most(1, bytes)));
    input_ = workspace_.template take<T>(images_ * image_);
    grad_ = workspace_.template take<T>(images_ * p.height * grad_row_);
  }

  int64_t images() const { return images_; }
  size_t bytes() const { return workspace_.used(); }
  int64_t slices() const { return p_.height; }
  int64_t parts() const { return count_panels<Path>(p_) * tiles(); }

  // A row of the input and of the gradient.
  void lay_out(int64_t first, int64_t slice) const {
    const int64_t place = slice / p_.height, y = slice % p_.height;
    T* pixels = input_ + place * image_ + (y + reach_.up) * row_;
    for (int64_t i = 0; i < reach_.left * pixel_; ++i) pixels[i] = 0;
    pixels += reach_.left * pixel_;
    const auto input = map_row<Element>(p_.input, first + place, y),
               grad = map_row<Element>(p_.grad, first + place, y);
    pixels_of<Element, T>(input, p_.in_channels, p_.width, pixels, pixel_);
    pixels += p_.width * pixel_;
    for (int64_t i = 0; i < reach_.right * pixel_; ++i) pixels[i] = 0;
    T* grads = grad_ + (place * p_.height + y) * grad_row_;
    pixels_of<Element, T>(grad, p_.out_channels, p_.width, grads, grad_pixel_);
    for (int64_t x = 0; x < p_.width; ++x) {
      for (int64_t c = p_.out_channels; c < grad_pixel_; ++c) grads[x * grad_pixel_ + c] = 0;
    }
  }

  // All parts see a band of rows before the next comes.
  void sum(int64_t first, int64_t begin, int64_t end) const {
    const int64_t images = least(images_, p_.images - first);
    const int64_t rows = most(1, kBandBytes / ((row_ + grad_row_) * int64_t(sizeof(T))));
    for (int64_t place = 0; place < images; ++place) {
      for (int64_t top = 0; top < p_.height; top += rows) {
        const Band band{place, top, least(p_.height, top + rows), first + place + top > 0};
        for (int64_t part = begin; part < end; ++part) add_band(band, part);
      }
    }
  }

  void write(int64_t panel) const { sums_.write(panel_at<Path>(p_, panel)); }

 private:
  struct Band {
    int64_t place, top, bottom;
    bool adds;
  };

  int64_t tiles() const { return (p_.in_channels + kGemmRows - 1) / kGemmRows; }

  // Of a tile of input channels and a panel of output channels.
  void add_band(const Band& band, int64_t part) const {
    const Panel panel = panel_at<Path>(p_, part / tiles());
    const int64_t first = part % tiles() * kGemmRows;
    sums_.for_each_tap(panel, first, kGemmRows, [&](const ConvTap& tap, int64_t begin, int64_t end, T* sums) {
      add_tap(band, panel, tap, begin, end, sums);
    });
  }

  void add_tap(const Band& band, const Panel& panel, const ConvTap& tap, int64_t begin, int64_t end,
               T* sums) const {
    const int64_t top = most(band.top, -tap.dy), bottom = least(band.bottom, p_.height - tap.dy);
    const T* input = input_ + band.place * image_ + (tap.dx + reach_.left) * pixel_ + begin;
    const T* grad = grad_ + band.place * p_.height * grad_row_ + panel.first;
    GemmTile<T> tile{{input, 1, pixel_},
                     grad,
                     grad_pixel_,
                     {nullptr, 0},
                     sums,
                     Path::kColumns,
                     int(end - begin),
                     vectors_for<T>(panel.last - panel.first),
                     band.adds};
    if (top >= bottom && !band.adds) GCV_ISA::gemm_tile(tile);  // zeros
    for (int64_t y = top; y < bottom; y += kSegments) {
      GemmSegment segments[kSegments];
      const int64_t count = least(kSegments, bottom - y);
      for (int64_t i = 0; i < count; ++i)
        segments[i] = {(y + i + tap.dy + reach_.up) * row_, (y + i) * grad_row_, p_.width};
      tile.segments = {segments, count};
      GCV_ISA::gemm_tile(tile);
      tile.add = true;
    }
  }

  static constexpr int64_t kSegments = 32;

  const TapConvWeightParams& p_;
  Workspace workspace_;
  Sums sums_;
  Reach reach_;
  int64_t pixel_, row_, image_, grad_pixel_, grad_row_, images_;
  T *input_, *grad_;
};

// Calls run(gradient) with the one that the product takes.
template <class Run>
auto with_gradient(const TapConvWeightParams& p, void* memory, const Run& run) {
  if (p.dtype == DType::bf16 && !p.widens && has_gemm_pairs()) return run(PairWeightGradient(p, memory));
  switch (p.dtype) {
    case DType::f64:
      return run(WeightGradient<double>(p, memory));
    case DType::f16:
      return run(WeightGradient<Half>(p, memory));
    case DType::bf16:
      return run(WeightGradient<BFloat16>(p, memory));
    default:
      return run(WeightGradient<float>(p, memory));
  }
}

}  // namespace

int64_t tap_conv_weight_images_cpu(const TapConvWeightParams& p) {
  return with_gradient(p, nullptr, [](const auto& gradient) { return gradient.images(); });
}

size_t tap_conv_weight_bytes_cpu(const TapConvWeightParams& p) {
  return with_gradient(p, nullptr, [](const auto& gradient) { return gradient.bytes(); });
}

int64_t tap_conv_weight_slices_cpu(const TapConvWeightParams& p) {
  return with_gradient(p, nullptr, [](const auto& gradient) { return gradient.slices(); });
}

int64_t tap_conv_weight_parts_cpu(const TapConvWeightParams& p) {
  return with_gradient(p, nullptr, [](const auto& gradient) { return gradient.parts(); });
}

int64_t tap_conv_weight_panels_cpu(const TapConvWeightParams& p) {
  return p.dtype == DType::f64 ? count_panels<WidePath<double>>(p) : count_panels<WidePath<float>>(p);
}

void tap_conv_weight_lay_out_cpu(const TapConvWeightParams& p, void* memory, int64_t first, int64_t begin,
                                 int64_t end) {
  with_gradient(p, memory, [&](const auto& gradient) {
    for (int64_t slice = begin; slice < end; ++slice) gradient.lay_out(first, slice);
  });
}

void tap_conv_weight_sum_cpu(const TapConvWeightParams& p, void* memory, int64_t first, int64_t begin,
                             int64_t end) {
  with_gradient(p, memory, [&](const auto& gradient) { gradient.sum(first, begin, end); });
}

void tap_conv_weight_write_cpu(const TapConvWeightParams& p, const void* memory, int64_t begin, int64_t end) {
  with_gradient(p, const_cast<void*>(memory), [&](const auto& gradient) {
    for (int64_t panel = begin; panel < end; ++panel) gradient.write(panel);
  });
}

}  // namespace gcv::GCV_ISA
