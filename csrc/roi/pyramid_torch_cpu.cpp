// Spatial pyramid pooling for CPU tensors.
#include "common/scratch.h"
#include "roi/pyramid_checks.h"

namespace gcv {
namespace {

int64_t groups_of(const Pyramid& p) {
  const int64_t lanes = pyramid_lanes(p.dtype);
  return (p.channels + lanes - 1) / lanes;
}

// Calls run(scratch, begin, end) for parts of `items`; a task has at least `grain` of them.
template <class Run>
void in_parallel(const Pyramid& p, int64_t items, int64_t grain, Run run) {
  const size_t bytes = size_t(pyramid_scratch_bytes(p));
  torch::stable::parallel_for(0, items, grain, [&](int64_t begin, int64_t end) {
    const Scratch scratch(bytes);
    run(scratch.data(), begin, end);
  });
}

// Items that read fewer numbers than this together are not worth waking a thread for.
int64_t grain_of(const Pyramid& p) {
  constexpr int64_t numbers = 32768;
  return numbers / (p.height * p.width * pyramid_lanes(p.dtype) + 1) + 1;
}

Tensor spatial_pyramid_pool(const Tensor& input, std::vector<int64_t> levels, const std::string& mode,
                            const std::string& bins, std::optional<Tensor> boxes, double spatial_scale) {
  return pyramid_pool_with(
      {"spatial_pyramid_pool", levels, mode, bins, boxes, spatial_scale}, input,
      [&](const PyramidPoolParams& p) {
        const Pyramid& pyramid = p.pyramid;
        const int64_t groups = groups_of(pyramid), items = pyramid.regions.count * groups;
        const bool shared = !pyramid.whole;
        const size_t bytes = pyramid.dtype == DType::f64 ? 8 : 4;
        const int64_t map = pyramid.height * pyramid.width * pyramid_lanes(pyramid.dtype);
        const Scratch maps(shared ? size_t(pyramid.images * groups * map) * bytes : 0);
        if (shared) {
          torch::stable::parallel_for(
              0, pyramid.images * groups, grain_of(pyramid),
              [&](int64_t begin, int64_t end) { pyramid_gather_cpu(p, maps.data(), begin, end); });
        }
        in_parallel(pyramid, items, shared ? 8 : grain_of(pyramid),
                    [&](void* scratch, int64_t begin, int64_t end) {
                      pyramid_pool_cpu(p, shared ? maps.data() : nullptr, scratch, begin, end);
                    });
      });
}

Tensor spatial_pyramid_pool_backward(const Tensor& grad, const Tensor& input, std::vector<int64_t> levels,
                                     const std::string& mode, const std::string& bins,
                                     std::optional<Tensor> boxes, double spatial_scale) {
  return pyramid_backward_with(
      {"spatial_pyramid_pool_backward", levels, mode, bins, boxes, spatial_scale}, grad, input,
      [&](const PyramidBackwardParams& p) {
        in_parallel(
            p.pyramid, p.pyramid.images * groups_of(p.pyramid), boxes ? 1 : grain_of(p.pyramid),
            [&](void* scratch, int64_t begin, int64_t end) { pyramid_backward_cpu(p, scratch, begin, end); });
      });
}

Tensor spatial_pyramid_pool_at(const Tensor& values, const Tensor& input, std::vector<int64_t> levels,
                               const std::string& bins, std::optional<Tensor> boxes, double spatial_scale) {
  return pyramid_at_with(
      {"spatial_pyramid_pool_at", levels, "max", bins, boxes, spatial_scale}, values, input,
      [&](const PyramidAtParams& p) {
        in_parallel(
            p.pyramid, p.pyramid.images * groups_of(p.pyramid), boxes ? 1 : grain_of(p.pyramid),
            [&](void* scratch, int64_t begin, int64_t end) { pyramid_at_cpu(p, scratch, begin, end); });
      });
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) {
  m.impl("spatial_pyramid_pool", TORCH_BOX(&spatial_pyramid_pool));
  m.impl("spatial_pyramid_pool_backward", TORCH_BOX(&spatial_pyramid_pool_backward));
  m.impl("spatial_pyramid_pool_at", TORCH_BOX(&spatial_pyramid_pool_at));
}

}  // namespace
}  // namespace gcv
