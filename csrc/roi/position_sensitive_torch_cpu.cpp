// Position-sensitive regions of CPU tensors.
#include <algorithm>

#include "common/scratch.h"
#include "roi/position_sensitive_checks.h"
#include "roi/position_sensitive_plan.h"

namespace gcv {
namespace {

// Roughly what a thread reads while another wakes up.
constexpr int64_t kReadsPerTask = 32768;

template <class Run>
void in_parallel(int64_t items, int64_t reads_per_item, const Run& run) {
  const int64_t grain = std::max<int64_t>(1, kReadsPerTask / std::max<int64_t>(1, reads_per_item));
  if (items <= grain) {
    if (items > 0) run(0, items);
  } else {
    torch::stable::parallel_for(0, items, grain, run);
  }
}

// A bin reads a handful of pixels, whatever the op.
constexpr int64_t kReadsPerBin = 16;

// Calls run(tables) for all regions' tables.
template <class Run>
void with_tables(const PsGeometry& g, const Run& run) {
  const size_t number_bytes = g.dtype == DType::f64 ? 8 : 4;
  const int64_t lists = kReadsPerBin * (g.bins_y + g.bins_x);
  PsPlan plan;
  plan.needs.resize(size_t(g.boxes.count));
  in_parallel(g.boxes.count, lists,
              [&](int64_t begin, int64_t end) { ps_needs_cpu(g, plan.needs.data(), begin, end); });
  ps_make_plan(g, plan);
  const Scratch memory(plan.table_bytes(number_bytes));
  const PsTables tables = ps_tables(plan, number_bytes, memory.data());
  in_parallel(int64_t(plan.groups.size()), kPsGroup * lists,
              [&](int64_t begin, int64_t end) { ps_tables_cpu(g, tables, begin, end); });
  run(tables);
}

// Of one item for each of its channels, on average.
int64_t reads_of_plane(const PsGeometry& g) { return kReadsPerBin * g.boxes.count / g.images; }

void forward_in_parallel(const char* op, const TensorRegions& regions, const PsForwardParams& p) {
  const PsGeometry& g = p.geometry;
  check_images_of(op, regions, g.images);
  if (g.boxes.count * g.channels == 0) return;
  with_tables(g, [&](const PsTables& tables) {
    in_parallel(ps_forward_items(g), kPsBlock * reads_of_plane(g), [&](int64_t begin, int64_t end) {
      const Scratch scratch(ps_forward_scratch(g));
      ps_forward_cpu(p, tables, scratch.data(), begin, end);
    });
  });
}

void backward_in_parallel(const char* op, const TensorRegions& regions, const PsBackwardParams& p) {
  const PsGeometry& g = p.geometry;
  check_images_of(op, regions, g.images);
  const int64_t pixels = g.height * g.width;
  if (g.images * g.channels * pixels == 0) return;
  with_tables(g, [&](const PsTables& tables) {
    in_parallel(ps_backward_items(g), kPsBlock * (reads_of_plane(g) + pixels),
                [&](int64_t begin, int64_t end) {
                  const Scratch scratch(ps_backward_scratch(g));
                  ps_backward_cpu(p, tables, scratch.data(), begin, end);
                });
  });
}

Tensor ps_roi_align(const Tensor& input, const Tensor& boxes, std::vector<int64_t> output_size,
                    double spatial_scale, int64_t sampling_ratio, bool) {
  return ps_forward_with("ps_roi_align", input, boxes, output_size, {spatial_scale, sampling_ratio, false},
                         forward_in_parallel);
}

Tensor ps_roi_pool(const Tensor& input, const Tensor& boxes, std::vector<int64_t> output_size,
                   double spatial_scale) {
  return ps_forward_with("ps_roi_pool", input, boxes, output_size, {spatial_scale, 0, true},
                         forward_in_parallel);
}

Tensor ps_roi_align_backward(const Tensor& grad, const Tensor& boxes, std::vector<int64_t> input_size,
                             double spatial_scale, int64_t sampling_ratio) {
  return ps_backward_with("ps_roi_align_backward", grad, boxes, input_size,
                          {spatial_scale, sampling_ratio, false}, backward_in_parallel);
}

Tensor ps_roi_pool_backward(const Tensor& grad, const Tensor& boxes, std::vector<int64_t> input_size,
                            double spatial_scale) {
  return ps_backward_with("ps_roi_pool_backward", grad, boxes, input_size, {spatial_scale, 0, true},
                          backward_in_parallel);
}

Tensor ps_roi_align_boxes_backward(const Tensor& grad, const Tensor& input, const Tensor& boxes,
                                   double spatial_scale, int64_t sampling_ratio) {
  return ps_boxes_backward_with(
      "ps_roi_align_boxes_backward", grad, input, boxes, {spatial_scale, sampling_ratio, false},
      [](const char* op, const TensorRegions& regions, const PsBoxesBackwardParams& p) {
        check_images_of(op, regions, p.geometry.images);
        in_parallel(p.geometry.boxes.count, kReadsPerBin * p.geometry.channels,
                    [&](int64_t begin, int64_t end) { ps_boxes_backward_cpu(p, begin, end); });
      });
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) {
  m.impl("ps_roi_align", TORCH_BOX(&ps_roi_align));
  m.impl("ps_roi_align_backward", TORCH_BOX(&ps_roi_align_backward));
  m.impl("ps_roi_align_boxes_backward", TORCH_BOX(&ps_roi_align_boxes_backward));
  m.impl("ps_roi_pool", TORCH_BOX(&ps_roi_pool));
  m.impl("ps_roi_pool_backward", TORCH_BOX(&ps_roi_pool_backward));
}

}  // namespace
}  // namespace gcv
