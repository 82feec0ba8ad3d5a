// NMS of one problem: boxes gathered in the order of their scores, then common/greedy_nms_cuda.h.
#include "common/greedy_nms_cuda.h"
#include "nms/kernels_cuda.h"
#include "nms/nms_cuda.h"

namespace gcv {
namespace {

static_assert(kNmsChunkRows == kMostChunkRows);
constexpr int kGatherThreads = 256;

template <class T>
struct SortedBoxes {
  PackedBox<T>* boxes;  // [n]
  int64_t* classes;     // [n], where there are classes
  int64_t n;
};

template <class Element>
__global__ void __launch_bounds__(kGatherThreads)
    gather_kernel(StridedBoxes<Element> from, const int64_t* order, const int64_t* class_ids,
                  int64_t class_stride, SortedBoxes<ComputeOf<Element>> to) {
  const int64_t i = int64_t(blockIdx.x) * kGatherThreads + threadIdx.x;
  if (i >= to.n) return;
  const int64_t source = order[i];
  to.boxes[i] = load_box(from, source);
  if (class_ids != nullptr) to.classes[i] = class_ids[source * class_stride];
}

template <class T>
struct Layout {
  SortedBoxes<T> sorted;
  GreedyNms<T> problem;
  size_t bytes;
};

template <class T>
Layout<T> layout(const NmsCudaParams& p) {
  Workspace workspace(p.workspace);
  Layout<T> l{};
  l.sorted.boxes = workspace.take<PackedBox<T>>(p.n);
  l.sorted.classes = p.class_ids != nullptr ? workspace.take<int64_t>(p.n) : nullptr;
  l.sorted.n = p.n;
  l.problem.problems = 1;
  l.problem.n = p.n;
  l.problem.boxes = l.sorted.boxes;
  l.problem.classes = l.sorted.classes;
  l.problem.removed = workspace.take<uint32_t>(removed_words(p.n));
  l.problem.threshold = make_iou_threshold<T>(p.iou_threshold);
  l.problem.limit = p.n;
  l.problem.chunk_rows = p.chunk_rows;
  l.problem.order = p.order;
  l.problem.keep = p.keep;
  l.problem.counts = p.count;
  take_greedy_scratch(l.problem, workspace);
  l.bytes = workspace.used();
  return l;
}

template <class Element>
cudaError_t run(const NmsCudaParams& p, cudaStream_t stream) {
  using T = ComputeOf<Element>;
  const Layout<T> l = layout<T>(p);
  const size_t removed_bytes = size_t(removed_words(p.n)) * sizeof(uint32_t);
  if (cudaError_t error = cudaMemsetAsync(l.problem.removed, 0, removed_bytes, stream)) return error;
  const dim3 gather_grid(unsigned(ceil_div<int64_t>(p.n, kGatherThreads)));
  if (cudaError_t error = launch(gather_kernel<Element>, {gather_grid, dim3(kGatherThreads), 0, stream},
                                 strided_boxes<Element>(p.boxes, p.box_stride, p.coord_stride), p.order,
                                 p.class_ids, p.class_stride, l.sorted)) {
    return error;
  }
  return p.class_ids != nullptr ? decide<T, true>(l.problem, stream) : decide<T, false>(l.problem, stream);
}

}  // namespace

size_t nms_cuda_workspace_bytes(const NmsCudaParams& p) {
  return p.dtype == DType::f64 ? layout<double>(p).bytes : layout<float>(p).bytes;
}

cudaError_t nms_cuda(const NmsCudaParams& p, cudaStream_t stream) {
  if (p.chunk_rows <= 0 || p.chunk_rows > kNmsChunkRows || p.chunk_rows % kTile != 0 || p.n > INT32_MAX) {
    return cudaErrorInvalidValue;
  }
  if (cudaError_t error = cudaMemsetAsync(p.count, 0, sizeof *p.count, stream)) return error;
  if (p.n == 0) return cudaSuccess;
  return with_element(p.dtype, [&](auto element) { return run<decltype(element)>(p, stream); });
}

}  // namespace gcv
