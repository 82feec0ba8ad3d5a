// Gradients of pairwise overlap metrics on the CPU. The metrics are symmetric: the gradient of a row's box is
// a sum along the row, that of a column's box down the column, and nothing of the size of the matrix is kept.
// Vectors go along the rows, as the incoming gradient lies in memory.
#include "boxes/iou_terms.h"
#include "common/workspace.h"

namespace gcv::GCV_ISA {
namespace {

// Numbers are summed in runs of this many, and then the sums of the runs: long sums lose fewer digits.
constexpr int64_t kRun = 64;

template <class T>
struct Terms {
  TermArrays<T> rows, columns;
  size_t bytes;
};

template <class T>
Terms<T> terms_at(const PairwiseIouBackwardParams& p, void* workspace, int64_t batch) {
  const int64_t n = TermArrays<T>::padded(p.boxes1.count), m = TermArrays<T>::padded(p.boxes2.count);
  Workspace images(workspace);
  T* memory = images.take<T>(p.batch * kTermFields * (n + m));
  T* image = memory + batch * kTermFields * (n + m);
  return {{image, n}, {image + kTermFields * n, m}, images.used()};
}

template <IouKind kKind, class Element>
void prepare(const PairwiseIouBackwardParams& p, void* workspace, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  for (int64_t batch = begin; batch < end; ++batch) {
    const Terms<T> terms = terms_at<T>(p, workspace, batch);
    fill_terms<kKind, true, Element>(p.boxes1, batch, 0, p.boxes1.count, terms.rows);
    fill_terms<kKind, true, Element>(p.boxes2, batch, 0, p.boxes2.count, terms.columns);
  }
}

template <class V>
GCV_HD void add(Box<V>& sum, const Box<V>& term) {
  sum.x1 += term.x1;
  sum.y1 += term.y1;
  sum.x2 += term.x2;
  sum.y2 += term.y2;
}

// Of term(0), term(step) ... below `end`.
template <class V, class F>
GCV_HD Box<V> sum_of(int64_t end, int64_t step, F term) {
  Box<V> sum{};
  for (int64_t first = 0; first < end; first += kRun * step) {
    const int64_t last = first + kRun * step < end ? first + kRun * step : end;
    Box<V> run{};
    for (int64_t i = first; i < last; i += step) add(run, term(i));
    add(sum, run);
  }
  return sum;
}

// What one box gets from its pairs with others.
template <IouKind kKind, class V>
GCV_HD Box<V> gradient(const BoxTerms<V>& own, const BoxTerms<V>& other, V grad, Lane<V> eps) {
  return box_gradient<kKind>(own, other.box, overlap_slopes<kKind, IouForm::metric>(own, other, grad, eps));
}

template <class T>
GCV_HD T sum_of_lanes(Simd<T> v) {
  T sum = v[0];
  for (int i = 1; i < kLanes<T>; ++i) sum += v[i];
  return sum;
}

template <class T>
GCV_HD const T* grad_at(const PairwiseIouBackwardParams& p, int64_t batch, int64_t row, int64_t column) {
  return static_cast<const T*>(p.grad) + batch * p.grad_batch_stride + row * p.grad_row_stride +
         column * p.grad_column_stride;
}

template <IouKind kKind, class Element>
void rows(const PairwiseIouBackwardParams& p, void* workspace, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const int64_t n = p.boxes1.count, m = p.boxes2.count;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t batch = item / n, row = item % n;
    const Terms<T> terms = terms_at<T>(p, workspace, batch);
    const auto own = splat_terms<kKind, true>(terms.rows, row);
    const auto sum = sum_of<Simd<T>>(m, kLanes<T>, [&](int64_t j) {
      const Simd<T> grad = load_some(grad_at<T>(p, batch, row, j), p.grad_column_stride, m - j);
      return gradient<kKind>(own, load_terms<kKind, true>(terms.columns, j), grad, T(p.eps));
    });
    Element* out = static_cast<Element*>(p.grad1) + 4 * item;
    narrow(sum_of_lanes<T>(sum.x1), out[0]);
    narrow(sum_of_lanes<T>(sum.y1), out[1]);
    narrow(sum_of_lanes<T>(sum.x2), out[2]);
    narrow(sum_of_lanes<T>(sum.y2), out[3]);
  }
}

template <IouKind kKind, class Element>
void columns(const PairwiseIouBackwardParams& p, void* workspace, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const int64_t n = p.boxes1.count, m = p.boxes2.count, blocks = TermArrays<T>::padded(m) / kLanes<T>;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t batch = item / blocks, j = item % blocks * kLanes<T>;
    const Terms<T> terms = terms_at<T>(p, workspace, batch);
    const auto own = load_terms<kKind, true>(terms.columns, j);
    const auto sum = sum_of<Simd<T>>(n, 1, [&](int64_t row) {
      const Simd<T> grad = load_some(grad_at<T>(p, batch, row, j), p.grad_column_stride, m - j);
      return gradient<kKind>(own, splat_terms<kKind, true>(terms.rows, row), grad, T(p.eps));
    });
    store_boxes(sum, static_cast<Element*>(p.grad2) + 4 * (batch * m + j), m - j);
  }
}

template <class Element>
void prepare_of(const PairwiseIouBackwardParams& p, void* workspace, int64_t begin, int64_t end) {
  GCV_BY_KIND(p.kind, prepare, Element, p, workspace, begin, end);
}

template <class Element>
void rows_of(const PairwiseIouBackwardParams& p, void* workspace, int64_t begin, int64_t end) {
  GCV_BY_KIND(p.kind, rows, Element, p, workspace, begin, end);
}

template <class Element>
void columns_of(const PairwiseIouBackwardParams& p, void* workspace, int64_t begin, int64_t end) {
  GCV_BY_KIND(p.kind, columns, Element, p, workspace, begin, end);
}

}  // namespace

size_t pairwise_iou_backward_workspace_bytes(const PairwiseIouBackwardParams& p) {
  return p.dtype == DType::f64 ? terms_at<double>(p, nullptr, 0).bytes : terms_at<float>(p, nullptr, 0).bytes;
}

int64_t pairwise_iou_column_blocks(const PairwiseIouBackwardParams& p) {
  const int64_t m = p.boxes2.count;
  return p.dtype == DType::f64 ? TermArrays<double>::padded(m) / kLanes<double>
                               : TermArrays<float>::padded(m) / kLanes<float>;
}

void pairwise_iou_backward_prepare_cpu(const PairwiseIouBackwardParams& p, void* workspace, int64_t begin,
                                       int64_t end) {
  GCV_BY_DTYPE(p.dtype, prepare_of, p, workspace, begin, end);
}

void pairwise_iou_backward_rows_cpu(const PairwiseIouBackwardParams& p, void* workspace, int64_t begin,
                                    int64_t end) {
  GCV_BY_DTYPE(p.dtype, rows_of, p, workspace, begin, end);
}

void pairwise_iou_backward_columns_cpu(const PairwiseIouBackwardParams& p, void* workspace, int64_t begin,
                                       int64_t end) {
  GCV_BY_DTYPE(p.dtype, columns_of, p, workspace, begin, end);
}

}  // namespace gcv::GCV_ISA
