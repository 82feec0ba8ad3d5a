// RoI align of CPU tensors.
#include <algorithm>
#include <utility>
#include <vector>

#include "common/share_out.h"
#include "roi/roi_align_checks.h"

namespace gcv {
namespace {

// A thread is worth waking for this many numbers to read.
constexpr int64_t kReadsPerTask = 65536;
// A bin reads a few pixels, whatever its size.
constexpr int64_t kReadsPerBin = 8;
// Regions at a time that a thread takes.
constexpr int64_t kRegions = 32;
constexpr int64_t kBoxes = 4;

int64_t threads_for(int64_t reads) { return 1 + reads / kReadsPerTask; }

int64_t blocks_of(const RoiAlignRegions& r) {
  const int64_t block = roi_align_block_cpu(r.dtype);
  return (r.channels + block - 1) / block;
}

int64_t reads_of_regions(const RoiAlignRegions& r) {
  return r.boxes.count * r.channels * r.pooled_height * r.pooled_width * kReadsPerBin;
}

// Turning all of a level pays where regions read its pixels this many times.
constexpr int64_t kWorthIt = 8;

struct Where {
  int64_t level;  // negative: on none
  int64_t image;
  RoiCopy copy;
};

template <class T>
Where where_in(const RoiAlignRegions& r, int64_t k) {
  const RoiPlace<T> place = roi_place<T>(r, k);
  return {place.level, place.image, place.level < 0 ? RoiCopy{} : roi_copied_region(r, place)};
}

Where where(const RoiAlignRegions& r, int64_t k) {
  return r.dtype == DType::f64 ? where_in<double>(r, k) : where_in<float>(r, k);
}

// Regions by level and image, those on no level last, and from the top of a map to its bottom: neighbours in
// the order find what they share in the caches.
struct Survey {
  std::vector<int64_t> order, starts;
  int64_t pixels[kRoiMostLevels] = {};       // of the copies of all regions of a level
  int64_t most_pixels[kRoiMostLevels] = {};  // of one
};

Survey survey(const RoiAlignRegions& r) {
  const int64_t maps = r.level_count * r.batch, regions = r.boxes.count;
  Survey s{std::vector<int64_t>(size_t(regions)), std::vector<int64_t>(size_t(maps) + 2)};
  std::vector<std::pair<int64_t, int64_t>> map_and_top(static_cast<size_t>(regions));
  for (int64_t k = 0; k < regions; ++k) {
    const Where at = where(r, k);
    const int64_t map = at.level < 0 ? maps : at.level * r.batch + at.image;
    map_and_top[k] = {map, at.copy.y.begin};
    s.order[k] = k;
    ++s.starts[map + 1];
    if (at.level < 0) continue;
    const int64_t pixels = roi_pixels(at.copy);
    s.pixels[at.level] += pixels;
    s.most_pixels[at.level] = std::max(s.most_pixels[at.level], pixels);
  }
  for (int64_t i = 0; i <= maps; ++i) s.starts[i + 1] += s.starts[i];
  std::stable_sort(s.order.begin(), s.order.end(),
                   [&](int64_t a, int64_t b) { return map_and_top[a] < map_and_top[b]; });
  return s;
}

// Blocks of the levels whose regions cover the maps again and again; of the others, regions are read in place
// or copied one by one.
class LaidOut {
 public:
  LaidOut(const RoiAlignRegions& r, const Survey& s) : memory_(bytes(r, s)) {
    char* next = static_cast<char*>(memory_.data());
    for (int64_t level = 0; level < r.level_count; ++level) {
      if (!is_worth_it(r, s, level)) {
        copied_pixels_ = std::max(copied_pixels_, s.most_pixels[level]);
        continue;
      }
      blocks_.levels[level] = next;
      lay_out(r, level, next);
      next += level_bytes(r, level);
    }
  }

  const RoiAlignBlocks& blocks() const { return blocks_; }

  // Of the largest region that is copied.
  int64_t copied_pixels() const { return copied_pixels_; }

 private:
  static int64_t pixels(const RoiAlignMap& map) { return map.height * map.width; }

  static bool is_in_place(const RoiAlignRegions& r, int64_t level) {
    const bool computes = r.dtype == DType::f32 || r.dtype == DType::f64;
    return r.levels[level].strides[1] == 1 && computes && r.channels % roi_align_block_cpu(r.dtype) == 0;
  }

  static bool is_worth_it(const RoiAlignRegions& r, const Survey& s, int64_t level) {
    const int64_t all = r.batch * pixels(r.levels[level]);
    return !is_in_place(r, level) && all > 0 && s.pixels[level] >= kWorthIt * all;
  }

  static size_t level_bytes(const RoiAlignRegions& r, int64_t level) {
    const size_t number = r.dtype == DType::f64 ? 8 : 4;
    return size_t(r.batch * pixels(r.levels[level]) * blocks_of(r) * roi_align_block_cpu(r.dtype)) * number;
  }

  static size_t bytes(const RoiAlignRegions& r, const Survey& s) {
    size_t all = 0;
    for (int64_t level = 0; level < r.level_count; ++level)
      if (is_worth_it(r, s, level)) all += level_bytes(r, level);
    return all;
  }

  static void lay_out(const RoiAlignRegions& r, int64_t level, void* to) {
    const int64_t reads = r.batch * pixels(r.levels[level]) * r.channels;
    share_out(blocks_of(r) * r.batch, 1, threads_for(reads), 0,
              [&](void*, int64_t begin, int64_t end) { roi_align_lay_out_cpu(r, level, to, begin, end); });
  }

  Scratch memory_;
  RoiAlignBlocks blocks_{};
  int64_t copied_pixels_ = 0;
};

void run_align(const char* op, const TensorRegions& boxes, const RoiAlignParams& p) {
  const RoiAlignRegions& r = p.regions;
  check_images_of(op, boxes, r.batch);
  if (r.boxes.count == 0 || r.channels == 0) return;
  const Survey s = survey(r);
  const LaidOut laid_out(r, s);
  share_out(blocks_of(r) * r.boxes.count, kRegions, threads_for(reads_of_regions(r)),
            roi_align_scratch_cpu(r, laid_out.copied_pixels()),
            [&](void* scratch, int64_t begin, int64_t end) {
              roi_align_cpu(p, laid_out.blocks(), s.order.data(), scratch, begin, end);
            });
}

void run_backward(const char* op, const TensorRegions& boxes, const RoiAlignBackwardParams& p) {
  const RoiAlignRegions& r = p.regions;
  check_images_of(op, boxes, r.batch);
  const Survey s = survey(r);
  const RoiAlignOrder order{s.order.data(), s.starts.data()};
  share_out(r.level_count * r.batch * blocks_of(r), 1, threads_for(reads_of_regions(r)),
            roi_align_maps_backward_scratch_cpu(r), [&](void* scratch, int64_t begin, int64_t end) {
              roi_align_maps_backward_cpu(p, order, scratch, begin, end);
            });
  if (p.grad_boxes == nullptr) return;
  const LaidOut laid_out(r, s);
  share_out(r.boxes.count, kBoxes, threads_for(reads_of_regions(r)),
            roi_align_scratch_cpu(r, laid_out.copied_pixels()),
            [&](void* scratch, int64_t begin, int64_t end) {
              roi_align_boxes_backward_cpu(p, laid_out.blocks(), scratch, begin, end);
            });
}

Tensor roi_align(const Tensor& input, const Tensor& boxes, Numbers output_size, double spatial_scale,
                 int64_t sampling_ratio, bool aligned, const std::string& mode, bool, bool channels_last) {
  return roi_align_with(input, boxes, output_size, spatial_scale, sampling_ratio, aligned, mode,
                        channels_last, run_align);
}

std::tuple<Tensor, Tensor> roi_align_backward(const Tensor& grad, const Tensor& boxes,
                                              std::optional<Tensor> input, Numbers input_size,
                                              double spatial_scale, int64_t sampling_ratio, bool aligned,
                                              const std::string& mode, bool differentiable_boxes,
                                              bool channels_last) {
  return roi_align_backward_with(grad, boxes, input, input_size, spatial_scale, sampling_ratio, aligned, mode,
                                 differentiable_boxes, channels_last, run_backward);
}

Tensor multiscale_roi_align(Tensors features, const Tensor& boxes, Numbers output_size, Scales scales,
                            int64_t sampling_ratio, int64_t canonical_scale, int64_t canonical_level,
                            bool aligned) {
  return multiscale_roi_align_with(features, boxes, output_size, scales, sampling_ratio, canonical_scale,
                                   canonical_level, aligned, run_align);
}

Tensors multiscale_roi_align_backward(const Tensor& grad, const Tensor& boxes, Numbers feature_sizes,
                                      Scales scales, int64_t sampling_ratio, int64_t canonical_scale,
                                      int64_t canonical_level, bool aligned, bool channels_last) {
  return multiscale_roi_align_backward_with(grad, boxes, feature_sizes, scales, sampling_ratio,
                                            canonical_scale, canonical_level, aligned, channels_last,
                                            run_backward);
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) {
  m.impl("roi_align", TORCH_BOX(&roi_align));
  m.impl("roi_align_backward", TORCH_BOX(&roi_align_backward));
  m.impl("multiscale_roi_align", TORCH_BOX(&multiscale_roi_align));
  m.impl("multiscale_roi_align_backward", TORCH_BOX(&multiscale_roi_align_backward));
}

}  // namespace
}  // namespace gcv
