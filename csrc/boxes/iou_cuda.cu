// Pairwise: a thread keeps one column's box and passes over rows whose terms lie in shared memory, so that a
// term (an arc tangent, say) is worth many pairs. Backward: sums in a fixed order, once for each list of
// boxes, with no matrix between. Losses: a thread per pair.
#include "boxes/iou_cuda.h"
#include "common/cuda.h"

namespace gcv {
namespace {

constexpr int kThreads = 256;
constexpr int kRowsPerThread = 16;
constexpr int kFewestColumns = 8;

GCV_HD int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class Element>
struct alignas(4 * sizeof(Element)) FourElements {
  Element v[4];
};

template <class Element>
__device__ __forceinline__ Box<typename Compute<Element>::type> load_box(const Element* box,
                                                                         int64_t coord_stride) {
  return {widen(box[0]), widen(box[coord_stride]), widen(box[2 * coord_stride]),
          widen(box[3 * coord_stride])};
}

template <class Element>
__device__ __forceinline__ Box<typename Compute<Element>::type> load_box(const BoxList& boxes, int64_t batch,
                                                                         int64_t i) {
  return load_box(static_cast<const Element*>(boxes.data) + batch * boxes.batch_stride + i * boxes.box_stride,
                  boxes.coord_stride);
}

template <class Element>
__device__ __forceinline__ void store_box(const Box<typename Compute<Element>::type>& box, void* boxes,
                                          int64_t i) {
  FourElements<Element> four;
  narrow(box.x1, four.v[0]);
  narrow(box.y1, four.v[1]);
  narrow(box.x2, four.v[2]);
  narrow(box.y2, four.v[3]);
  static_cast<FourElements<Element>*>(boxes)[i] = four;
}

// What one block computes: `columns` wide, and kRowsPerThread rows for each of its groups of threads.
struct PairTiles {
  int columns, rows;
  int64_t across, down;

  static PairTiles of(const PairwiseIouParams& p) {
    int columns = kFewestColumns;
    while (columns < kThreads && columns < p.boxes2.count) columns *= 2;
    const int rows = kThreads / columns * kRowsPerThread;
    return {columns, rows, ceil_div(p.boxes2.count, columns), ceil_div(p.boxes1.count, rows)};
  }
};

template <IouKind kKind, class Element>
__global__ void __launch_bounds__(kThreads, 2) pairwise_kernel(PairwiseIouParams p, PairTiles tiles) {
  using T = typename Compute<Element>::type;
  BoxTerms<T>* rows = dyn_shared<BoxTerms<T>>();
  const int64_t n = p.boxes1.count, m = p.boxes2.count, block = blockIdx.x;
  const int64_t batch = block / (tiles.across * tiles.down);
  const int64_t first_row = block / tiles.across % tiles.down * tiles.rows;
  const int64_t column = block % tiles.across * tiles.columns + threadIdx.x % tiles.columns;
  const int row_count = int(n - first_row < tiles.rows ? n - first_row : tiles.rows);
  for (int i = int(threadIdx.x); i < row_count; i += kThreads)
    rows[i] = terms_of<kKind>(load_box<Element>(p.boxes1, batch, first_row + i));
  __syncthreads();
  if (column >= m) return;
  const BoxTerms<T> own = terms_of<kKind>(load_box<Element>(p.boxes2, batch, column));
  T* result = static_cast<T*>(p.result) + (batch * n + first_row) * m + column;
  for (int i = int(threadIdx.x) / tiles.columns; i < row_count; i += kThreads / tiles.columns)
    result[i * m] = overlap_value<kKind, IouForm::metric>(rows[i], own, T(p.eps));
}

template <IouKind kKind, class Element>
cudaError_t pairwise(const PairwiseIouParams& p, cudaStream_t stream) {
  const PairTiles tiles = PairTiles::of(p);
  const dim3 grid(unsigned(p.batch * tiles.across * tiles.down));
  const size_t shared_bytes = tiles.rows * sizeof(BoxTerms<typename Compute<Element>::type>);
  return launch(pairwise_kernel<kKind, Element>, {grid, dim3(kThreads), shared_bytes, stream}, p, tiles);
}

template <class Element>
cudaError_t pairwise_of(const PairwiseIouParams& p, cudaStream_t stream) {
  return GCV_BY_KIND(p.kind, pairwise, Element, p, stream);
}

// The metrics are symmetric, so one kernel serves both lists.
struct OwnGradientParams {
  const void* grad;
  int64_t grad_batch_stride, grad_own_stride, grad_other_stride;
  BoxList own, others;
  int64_t batch;
  void* own_grad;
  double eps;
  bool own_fastest;  // neighbouring threads have neighbouring boxes of `own`, else of `others`
};

constexpr int kSide = 16;  // a block has this many of its own boxes, and as many threads for each
constexpr int kOthersAtOnce = 128;
static_assert(kSide * kSide == kThreads);

template <class T>
__device__ __forceinline__ void add(Box<T>& sum, const Box<T>& term) {
  sum.x1 += term.x1;
  sum.y1 += term.y1;
  sum.x2 += term.x2;
  sum.y2 += term.y2;
}

template <IouKind kKind, class Element>
__global__ void __launch_bounds__(kThreads, 2) own_gradient_kernel(OwnGradientParams p) {
  using T = typename Compute<Element>::type;
  using Terms = BoxTerms<T>;
  using Sum = Box<T>;
  GCV_SHARED(Terms, others, [kOthersAtOnce]);
  GCV_SHARED(Sum, sums, [kSide][kSide]);
  const int fast = int(threadIdx.x) % kSide, slow = int(threadIdx.x) / kSide;
  const int own_lane = p.own_fastest ? fast : slow, other_lane = p.own_fastest ? slow : fast;
  const int64_t blocks = ceil_div(p.own.count, kSide), batch = blockIdx.x / blocks;
  const int64_t i = blockIdx.x % blocks * kSide + own_lane;
  const bool in_range = i < p.own.count;
  const int64_t box = in_range ? i : 0;
  const Terms own = sloped_terms_of<kKind>(load_box<Element>(p.own, batch, box));
  const T* grad = static_cast<const T*>(p.grad) + batch * p.grad_batch_stride + box * p.grad_own_stride;
  Sum sum{};
  for (int64_t first = 0; first < p.others.count; first += kOthersAtOnce) {
    const int count = int(p.others.count - first < kOthersAtOnce ? p.others.count - first : kOthersAtOnce);
    __syncthreads();
    if (int(threadIdx.x) < count)
      others[threadIdx.x] = terms_of<kKind>(load_box<Element>(p.others, batch, first + threadIdx.x));
    __syncthreads();
    Sum part{};
    for (int j = other_lane; j < count; j += kSide) {
      const T by_pair = grad[(first + j) * p.grad_other_stride];
      const auto slopes = overlap_slopes<kKind, IouForm::metric>(own, others[j], by_pair, T(p.eps));
      add(part, box_gradient<kKind>(own, others[j].box, slopes));
    }
    add(sum, part);
  }
  sums[own_lane][other_lane] = sum;
  __syncthreads();
  if (other_lane != 0 || !in_range) return;
  for (int lane = 1; lane < kSide; ++lane) add(sum, sums[own_lane][lane]);
  store_box<Element>(sum, p.own_grad, batch * p.own.count + i);
}

template <IouKind kKind, class Element>
cudaError_t own_gradient(const OwnGradientParams& p, cudaStream_t stream) {
  const dim3 grid(unsigned(p.batch * ceil_div(p.own.count, kSide)));
  return launch(own_gradient_kernel<kKind, Element>, {grid, dim3(kThreads), 0, stream}, p);
}

template <IouKind kKind, class Element>
cudaError_t pairwise_backward(const PairwiseIouBackwardParams& p, cudaStream_t stream) {
  const OwnGradientParams rows{p.grad,
                               p.grad_batch_stride,
                               p.grad_row_stride,
                               p.grad_column_stride,
                               p.boxes1,
                               p.boxes2,
                               p.batch,
                               p.grad1,
                               p.eps,
                               false};
  const OwnGradientParams columns{p.grad,
                                  p.grad_batch_stride,
                                  p.grad_column_stride,
                                  p.grad_row_stride,
                                  p.boxes2,
                                  p.boxes1,
                                  p.batch,
                                  p.grad2,
                                  p.eps,
                                  true};
  if (cudaError_t error = own_gradient<kKind, Element>(rows, stream)) return error;
  return own_gradient<kKind, Element>(columns, stream);
}

template <class Element>
cudaError_t pairwise_backward_of(const PairwiseIouBackwardParams& p, cudaStream_t stream) {
  return GCV_BY_KIND(p.kind, pairwise_backward, Element, p, stream);
}

// Rows of a dense [n, 4], which a view may have begun anywhere.
template <class Element>
struct DenseBoxes {
  const Element* data;
  bool aligned;

  explicit DenseBoxes(const void* boxes)
      : data(static_cast<const Element*>(boxes)),
        aligned(reinterpret_cast<uintptr_t>(boxes) % sizeof(FourElements<Element>) == 0) {}

  __device__ __forceinline__ Box<typename Compute<Element>::type> at(int64_t i) const {
    if (!aligned) return load_box(data + 4 * i, 1);
    const FourElements<Element> four = reinterpret_cast<const FourElements<Element>*>(data)[i];
    return load_box(four.v, 1);
  }
};

template <IouKind kKind, class Element>
__global__ void __launch_bounds__(kThreads)
    loss_kernel(IouLossParams p, DenseBoxes<Element> boxes1, DenseBoxes<Element> boxes2) {
  using T = typename Compute<Element>::type;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= p.n) return;
  const auto a = terms_of<kKind>(boxes1.at(i)), b = terms_of<kKind>(boxes2.at(i));
  static_cast<T*>(p.result)[i] = overlap_value<kKind, IouForm::loss>(a, b, T(p.eps));
}

template <IouKind kKind, class Element>
__global__ void __launch_bounds__(kThreads)
    loss_backward_kernel(IouLossBackwardParams p, DenseBoxes<Element> boxes1, DenseBoxes<Element> boxes2) {
  using T = typename Compute<Element>::type;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= p.n) return;
  const auto a = sloped_terms_of<kKind>(boxes1.at(i)), b = sloped_terms_of<kKind>(boxes2.at(i));
  const T grad = -static_cast<const T*>(p.grad)[i];
  const auto slopes = overlap_slopes<kKind, IouForm::loss>(a, b, grad, T(p.eps));
  store_box<Element>(box_gradient<kKind>(a, b.box, slopes), p.grad1, i);
  store_box<Element>(box_gradient<kKind>(b, a.box, swapped(slopes)), p.grad2, i);
}

template <IouKind kKind, class Element>
cudaError_t loss(const IouLossParams& p, cudaStream_t stream) {
  const dim3 grid(unsigned(ceil_div(p.n, kThreads)));
  return launch(loss_kernel<kKind, Element>, {grid, dim3(kThreads), 0, stream}, p,
                DenseBoxes<Element>(p.boxes1), DenseBoxes<Element>(p.boxes2));
}

template <IouKind kKind, class Element>
cudaError_t loss_backward(const IouLossBackwardParams& p, cudaStream_t stream) {
  const dim3 grid(unsigned(ceil_div(p.n, kThreads)));
  return launch(loss_backward_kernel<kKind, Element>, {grid, dim3(kThreads), 0, stream}, p,
                DenseBoxes<Element>(p.boxes1), DenseBoxes<Element>(p.boxes2));
}

template <class Element>
cudaError_t loss_of(const IouLossParams& p, cudaStream_t stream) {
  return GCV_BY_LOSS_KIND(p.kind, loss, Element, p, stream);
}

template <class Element>
cudaError_t loss_backward_of(const IouLossBackwardParams& p, cudaStream_t stream) {
  return GCV_BY_LOSS_KIND(p.kind, loss_backward, Element, p, stream);
}

}  // namespace

cudaError_t pairwise_iou_cuda(const PairwiseIouParams& p, cudaStream_t stream) {
  if (p.batch * p.boxes1.count * p.boxes2.count == 0) return cudaSuccess;
  return GCV_BY_DTYPE(p.dtype, pairwise_of, p, stream);
}

cudaError_t pairwise_iou_backward_cuda(const PairwiseIouBackwardParams& p, cudaStream_t stream) {
  if (p.batch * p.boxes1.count * p.boxes2.count == 0) return cudaSuccess;
  return GCV_BY_DTYPE(p.dtype, pairwise_backward_of, p, stream);
}

cudaError_t iou_loss_cuda(const IouLossParams& p, cudaStream_t stream) {
  return p.n == 0 ? cudaSuccess : GCV_BY_DTYPE(p.dtype, loss_of, p, stream);
}

cudaError_t iou_loss_backward_cuda(const IouLossBackwardParams& p, cudaStream_t stream) {
  return p.n == 0 ? cudaSuccess : GCV_BY_DTYPE(p.dtype, loss_backward_of, p, stream);
}

}  // namespace gcv
