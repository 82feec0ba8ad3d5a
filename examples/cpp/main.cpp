// Non-maximum suppression from C++, without torch: prints the indices of the boxes to keep.
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "nms/nms.h"

int main() {
  const float boxes[][4] = {{0, 0, 10, 10}, {1, 1, 10, 10}, {20, 20, 30, 30}};
  const float scores[] = {0.8f, 0.9f, 0.7f};

  gcv::NmsParams p{};
  p.boxes = boxes;
  p.box_stride = 4;
  p.coord_stride = 1;
  p.scores = scores;
  p.score_stride = 1;
  p.n = 3;
  p.dtype = gcv::DType::f32;
  p.iou_threshold = 0.5;

  const size_t bytes = (gcv::nms_workspace_bytes(p) + 63) / 64 * 64;
  const std::unique_ptr<void, decltype(&std::free)> workspace(std::aligned_alloc(64, bytes), &std::free);
  const int64_t groups = gcv::nms_prepare_cpu(p, workspace.get());
  gcv::nms_groups_cpu(p, workspace.get(), 0, groups);
  int64_t keep[3];
  const int64_t count = gcv::nms_collect_cpu(p, workspace.get(), keep);
  for (int64_t i = 0; i < count; ++i) std::printf("%lld\n", static_cast<long long>(keep[i]));
}
