// RoI pooling of CPU tensors.
#include <algorithm>
#include <limits>
#include <vector>

#include "common/share_out.h"
#include "roi/roi_pool_checks.h"

namespace gcv {
namespace {

// A thread is worth waking for this many numbers to read.
constexpr int64_t kReadsPerTask = 65536;

// A bin reads a few pixels, whatever its size.
constexpr int64_t kReadsPerBin = 4;

// Regions at a time that a thread takes.
constexpr int64_t kRegions = 32;

struct Order {
  std::vector<int64_t> order, starts;
};

// By image, and as they come within one. check_images_of has seen them.
Order by_image(const PoolShape& s) {
  Order found{std::vector<int64_t>(size_t(s.regions.count)), std::vector<int64_t>(size_t(s.images) + 1)};
  std::vector<int64_t> images(size_t(s.regions.count));
  for (int64_t k = 0; k < s.regions.count; ++k) {
    images[k] = read_region<double>(s.regions, k, s.images).image;
    ++found.starts[images[k] + 1];
  }
  for (int64_t n = 0; n < s.images; ++n) found.starts[n + 1] += found.starts[n];
  std::vector<int64_t> next(found.starts.begin(), found.starts.end() - 1);
  for (int64_t k = 0; k < s.regions.count; ++k) found.order[next[images[k]]++] = k;
  return found;
}

template <class T>
int64_t pixels_of(const PoolShape& s, int64_t k) {
  const PoolRegion<T> region = pool_region<T>(s, k);
  if (!region.sound) return 0;
  const auto length = [](const auto& axis, int64_t bins, int64_t size) {
    return pool_extent(axis, bins - 1, size).end - pool_extent(axis, 0, size).begin;
  };
  return length(region.y, s.rows, s.height) * length(region.x, s.columns, s.width);
}

// Of regions together, until there are `enough`, and of the largest of those.
struct Pixels {
  int64_t all = 0, most = 0;
};

Pixels count_pixels(const PoolShape& s, int64_t enough) {
  Pixels found;
  for (int64_t k = 0; k < s.regions.count && found.all < enough; ++k) {
    const int64_t here = s.dtype == DType::f64 ? pixels_of<double>(s, k) : pixels_of<float>(s, k);
    found.all += here;
    found.most = std::max(found.most, here);
  }
  return found;
}

int64_t threads_for(int64_t reads) { return 1 + reads / kReadsPerTask; }

int64_t blocks_of(const PoolShape& s) {
  const int64_t block = roi_pool_block_cpu(s.dtype);
  return (s.channels + block - 1) / block;
}

size_t compute_bytes(const PoolShape& s) { return s.dtype == DType::f64 ? 8 : 4; }

int64_t reads_of_regions(const PoolShape& s) {
  return s.regions.count * s.channels * bin_count(s) * kReadsPerBin;
}

bool is_channels_last(const RoiPoolParams& p) {
  return p.input.strides[1] == 1 && (p.shape.dtype == DType::f32 || p.shape.dtype == DType::f64);
}

void run_roi_pool(const RoiPoolParams& p) {
  const PoolShape& s = p.shape;
  const Order order = by_image(s);
  const int64_t blocks = blocks_of(s), all = s.images * map_pixels(s);
  // Where regions cover much of the maps, all of it is turned at once; channels that lie together already are
  // read in place, but for the last few, which are copied a region at a time.
  const bool in_place = is_channels_last(p);
  const Pixels pixels = count_pixels(s, in_place ? std::numeric_limits<int64_t>::max() : all / 2);
  const bool whole = pixels.all >= all / 2 && !in_place && all > 0;
  const size_t map_bytes = whole ? size_t(all * blocks * roi_pool_block_cpu(s.dtype)) * compute_bytes(s) : 0;
  const Scratch laid_out(map_bytes);
  if (whole) {
    share_out(blocks * s.images, 1, threads_for(all * s.channels), 0, [&](void*, int64_t begin, int64_t end) {
      roi_pool_lay_out_cpu(p, laid_out.data(), begin, end);
    });
  }
  share_out(blocks * s.regions.count, kRegions, threads_for(reads_of_regions(s)),
            roi_pool_scratch_cpu(s, whole ? 0 : pixels.most), [&](void* scratch, int64_t begin, int64_t end) {
              roi_pool_cpu(p, whole ? laid_out.data() : nullptr, order.order.data(), scratch, begin, end);
            });
}

Tensor roi_pool(const Tensor& input, const Tensor& boxes, std::vector<int64_t> output_size,
                double spatial_scale) {
  return roi_pool_with(input, boxes, output_size, spatial_scale,
                       [](const TensorRegions& regions, const RoiPoolParams& p) {
                         check_images_of("roi_pool", regions, p.shape.images);
                         if (!is_empty(p.shape)) run_roi_pool(p);
                       });
}

// Each item's owner reads its maps and writes what belongs to them.
template <class Params, class Kernel>
void run_owners(const char* op, const TensorRegions& regions, const Params& p, const Kernel& kernel) {
  const PoolShape& s = p.shape;
  check_images_of(op, regions, s.images);
  const Order found = by_image(s);
  const PoolOrder order{found.order.data(), found.starts.data()};
  const int64_t reads = reads_of_regions(s) + s.images * s.channels * map_pixels(s);
  share_out(blocks_of(s) * s.images, 1, threads_for(reads), roi_pool_owner_scratch_cpu(s),
            [&](void* scratch, int64_t begin, int64_t end) { kernel(p, order, scratch, begin, end); });
}

Tensor roi_pool_pick(const Tensor& values, const Tensor& input, const Tensor& boxes,
                     std::vector<int64_t> output_size, double spatial_scale) {
  return roi_pool_pick_with(values, input, boxes, output_size, spatial_scale,
                            [](const TensorRegions& regions, const RoiPoolPickParams& p) {
                              run_owners("roi_pool_pick", regions, p, roi_pool_pick_cpu);
                            });
}

Tensor roi_pool_backward(const Tensor& grad, const Tensor& input, const Tensor& boxes, double spatial_scale) {
  return roi_pool_backward_with(grad, input, boxes, spatial_scale,
                                [](const TensorRegions& regions, const RoiPoolBackwardParams& p) {
                                  run_owners("roi_pool_backward", regions, p, roi_pool_backward_cpu);
                                });
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) {
  m.impl("roi_pool", TORCH_BOX(&roi_pool));
  m.impl("roi_pool_backward", TORCH_BOX(&roi_pool_backward));
  m.impl("roi_pool_pick", TORCH_BOX(&roi_pool_pick));
}

}  // namespace
}  // namespace gcv
