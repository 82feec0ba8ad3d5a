// Drives the overlap kernels of room boxes at every instruction set with exactly sized memory, for the
// sanitizers, and compares them with plain loops. `boxes_iou_cpu_test full` adds larger cases.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "boxes_iou_naive.h"

namespace gcv {
namespace {

int failures = 0;

void expect(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s, %s\n", what.c_str(), isa_name(active_isa()));
}

constexpr double kEps = 1e-3;
constexpr IouKind kKinds[] = {IouKind::iou, IouKind::giou, IouKind::diou, IouKind::ciou};

template <class F>
void split_among_threads(int64_t items, F run) {
  const int64_t middle = items / 3;
  std::thread other([&] { run(0, middle); });
  run(middle, items);
  other.join();
}

template <class Element>
using ResultOf = typename Compute<Element>::type;

struct Sizes {
  int64_t batch, n, m;
};

template <class Element>
std::string name_of(const char* what, IouKind kind, const Sizes& s) {
  return std::string(what) + " of kind " + std::to_string(int(kind)) + ", dtype " +
         std::to_string(int(DTypeOf<Element>::value)) + ", " + std::to_string(s.batch) + " x " +
         std::to_string(s.n) + " x " + std::to_string(s.m);
}

template <class Element>
std::vector<ResultOf<Element>> run_pairwise(const StoredBoxes<Element>& a, const StoredBoxes<Element>& b,
                                            IouKind kind, const Sizes& s, bool stream) {
  std::vector<ResultOf<Element>> result(s.batch * s.n * s.m, -7);
  const PairwiseIouParams p{a.list, b.list, s.batch, result.data(), DTypeOf<Element>::value,
                            kind,   kEps,   stream};
  split_among_threads(pairwise_iou_items(p),
                      [&](int64_t begin, int64_t end) { pairwise_iou_cpu(p, begin, end); });
  return result;
}

// Bits of the intersection over union, on boxes that meet and that have no area.
template <class Element>
void check_exact_iou(const Sizes& s, Layout layout) {
  using T = ResultOf<Element>;
  const auto boxes1 = make_boxes(s.batch * s.n, 1, Place::grid),
             boxes2 = make_boxes(s.batch * s.m, 2, Place::grid);
  const std::vector<T> exact1(boxes1.begin(), boxes1.end()), exact2(boxes2.begin(), boxes2.end());
  const StoredBoxes<Element> a(boxes1, s.batch, layout), b(boxes2, s.batch, layout);
  const auto result = run_pairwise(a, b, IouKind::iou, s, layout != Layout::dense);
  for (int64_t i = 0; i < s.batch * s.n; ++i) {
    for (int64_t j = 0; j < s.m; ++j) {
      T whole;
      const T expected = naive_iou(&exact1[4 * i], &exact2[4 * (i / s.n * s.m + j)], &whole, false, T(0));
      const T got = result[i * s.m + j];
      if (got == expected || (got != got && expected != expected)) continue;
      return expect(false, name_of<Element>("IoU", IouKind::iou, s));
    }
  }
}

template <class T>
void check_metrics(const Sizes& s, Layout layout, double tolerance) {
  const auto boxes1 = make_boxes(s.batch * s.n, 3, Place::anywhere);
  const auto boxes2 = make_boxes(s.batch * s.m, 4, Place::anywhere);
  const StoredBoxes<T> a(boxes1, s.batch, layout), b(boxes2, s.batch, layout);
  for (IouKind kind : kKinds) {
    const auto result = run_pairwise(a, b, kind, s, layout != Layout::dense);
    bool right = true;
    for (int64_t i = 0; i < s.batch * s.n; ++i) {
      for (int64_t j = 0; j < s.m; ++j) {
        const double *one = &boxes1[4 * i], *two = &boxes2[4 * (i / s.n * s.m + j)];
        const double weight = naive_weight(one, two, false, kEps);
        right &= close(result[i * s.m + j], naive_metric(kind, one, two, false, kEps, weight), tolerance);
      }
    }
    expect(right, name_of<T>("metric", kind, s));
  }
}

template <class T>
bool close_boxes(const T* got, const Box<double>& expected, double tolerance) {
  return close(got[0], expected.x1, tolerance) && close(got[1], expected.y1, tolerance) &&
         close(got[2], expected.x2, tolerance) && close(got[3], expected.y2, tolerance);
}

void add_scaled(Box<double>& sum, const Box<double>& term, double scale) {
  sum = {sum.x1 + scale * term.x1, sum.y1 + scale * term.y1, sum.x2 + scale * term.x2,
         sum.y2 + scale * term.y2};
}

template <class T>
void run_backward(const PairwiseIouBackwardParams& p) {
  const size_t bytes = pairwise_iou_backward_workspace_bytes(p);
  const std::unique_ptr<void, void (*)(void*)> workspace(std::aligned_alloc(64, bytes), std::free);
  std::memset(workspace.get(), 0x3f, bytes);
  void* memory = workspace.get();
  split_among_threads(
      p.batch, [&](int64_t begin, int64_t end) { pairwise_iou_backward_prepare_cpu(p, memory, begin, end); });
  split_among_threads(p.batch * p.boxes1.count, [&](int64_t begin, int64_t end) {
    pairwise_iou_backward_rows_cpu(p, memory, begin, end);
  });
  split_among_threads(p.batch * pairwise_iou_column_blocks(p), [&](int64_t begin, int64_t end) {
    pairwise_iou_backward_columns_cpu(p, memory, begin, end);
  });
}

// With a transposed gradient as well: its elements are then a column apart.
template <class T>
void check_gradients(const Sizes& s, Layout layout, bool transposed, double tolerance) {
  const auto boxes1 = make_boxes(s.batch * s.n, 5, Place::anywhere);
  const auto boxes2 = make_boxes(s.batch * s.m, 6, Place::anywhere);
  const StoredBoxes<T> a(boxes1, s.batch, layout), b(boxes2, s.batch, layout);
  const int64_t row = transposed ? 1 : s.m, column = transposed ? s.n : 1;
  std::vector<T> grad(s.batch * s.n * s.m);
  for (size_t i = 0; i < grad.size(); ++i) grad[i] = T(int(i * 7 % 11) - 5) / 4;
  for (IouKind kind : kKinds) {
    std::vector<T> grad1(boxes1.size()), grad2(boxes2.size());
    run_backward<T>({grad.data(), s.n * s.m, row, column, a.list, b.list, s.batch, grad1.data(), grad2.data(),
                     DTypeOf<T>::value, kind, kEps});
    std::vector<Box<double>> expected1(s.batch * s.n), expected2(s.batch * s.m);
    for (int64_t i = 0; i < s.batch * s.n; ++i) {
      for (int64_t j = 0; j < s.m; ++j) {
        const int64_t batch = i / s.n, other = batch * s.m + j;
        const double scale = grad[batch * s.n * s.m + i % s.n * row + j * column];
        add_scaled(expected1[i], naive_gradient(kind, &boxes1[4 * i], &boxes2[4 * other], false, kEps),
                   scale);
        add_scaled(expected2[other], naive_gradient(kind, &boxes2[4 * other], &boxes1[4 * i], false, kEps),
                   scale);
      }
    }
    bool right = true;
    for (int64_t i = 0; i < s.batch * s.n; ++i) right &= close_boxes(&grad1[4 * i], expected1[i], tolerance);
    for (int64_t j = 0; j < s.batch * s.m; ++j) right &= close_boxes(&grad2[4 * j], expected2[j], tolerance);
    expect(right, name_of<T>(transposed ? "transposed gradient" : "gradient", kind, s));
  }
}

template <class T>
void check_losses(int64_t n, double tolerance) {
  const auto boxes1 = make_boxes(n, 7, Place::anywhere), boxes2 = make_boxes(n, 8, Place::anywhere);
  const std::vector<T> a(boxes1.begin(), boxes1.end()), b(boxes2.begin(), boxes2.end());
  std::vector<T> grad(n), result(n), grad1(4 * n), grad2(4 * n);
  for (int64_t i = 0; i < n; ++i) grad[i] = T(i % 5) - T(1.5);
  for (IouKind kind : {IouKind::giou, IouKind::diou, IouKind::ciou}) {
    const IouLossParams p{a.data(), b.data(), result.data(), n, DTypeOf<T>::value, kind, kEps};
    const IouLossBackwardParams q{grad.data(), a.data(), b.data(), grad1.data(), grad2.data(),
                                  n,           p.dtype,  kind,     kEps};
    split_among_threads(n, [&](int64_t begin, int64_t end) { iou_loss_cpu(p, begin, end); });
    split_among_threads(n, [&](int64_t begin, int64_t end) { iou_loss_backward_cpu(q, begin, end); });
    bool right = true;
    for (int64_t i = 0; i < n; ++i) {
      const double *one = &boxes1[4 * i], *two = &boxes2[4 * i], weight = naive_weight(one, two, true, kEps);
      Box<double> expected1{}, expected2{};
      add_scaled(expected1, naive_gradient(kind, one, two, true, kEps), -grad[i]);
      add_scaled(expected2, naive_gradient(kind, two, one, true, kEps), -grad[i]);
      right &= close(result[i], 1 - naive_metric(kind, one, two, true, kEps, weight), tolerance) &&
               close_boxes(&grad1[4 * i], expected1, tolerance) &&
               close_boxes(&grad2[4 * i], expected2, tolerance);
    }
    expect(right, name_of<T>("loss", kind, {1, n, 1}));
  }
}

// Half types are widened on the way in and rounded on the way out.
template <class Element>
void check_half_losses(int64_t n) {
  const auto boxes1 = make_boxes(n, 9, Place::grid), boxes2 = make_boxes(n, 10, Place::grid);
  const std::vector<float> wide1(boxes1.begin(), boxes1.end()), wide2(boxes2.begin(), boxes2.end()),
      grad(n, 1);
  const StoredBoxes<Element> a(boxes1, 1, Layout::dense), b(boxes2, 1, Layout::dense);
  std::vector<float> expected(n), result(n), wide_grad1(4 * n), wide_grad2(4 * n);
  std::vector<Element> grad1(4 * n), grad2(4 * n);
  iou_loss_cpu({wide1.data(), wide2.data(), expected.data(), n, DType::f32, IouKind::giou, kEps}, 0, n);
  iou_loss_cpu({a.list.data, b.list.data, result.data(), n, DTypeOf<Element>::value, IouKind::giou, kEps}, 0,
               n);
  expect(result == expected, "loss of half boxes");
  iou_loss_backward_cpu({grad.data(), wide1.data(), wide2.data(), wide_grad1.data(), wide_grad2.data(), n,
                         DType::f32, IouKind::giou, kEps},
                        0, n);
  iou_loss_backward_cpu({grad.data(), a.list.data, b.list.data, grad1.data(), grad2.data(), n,
                         DTypeOf<Element>::value, IouKind::giou, kEps},
                        0, n);
  bool right = true;
  for (int64_t i = 0; i < 4 * n; ++i) {
    Element rounded1, rounded2;
    narrow(wide_grad1[i], rounded1);
    narrow(wide_grad2[i], rounded2);
    right &= grad1[i].bits == rounded1.bits && grad2[i].bits == rounded2.bits;
  }
  expect(right, "gradient of half boxes");
}

// To two units in the last place, over all signs and both ranges of the polynomial.
template <class T>
void check_angles() {
  bool right = true;
  for (int i = -200; i <= 200; ++i) {
    const T w = T(std::exp(i / 25.0)) * (i % 2 ? T(-1) : T(1)), h = T(1) + T(i & 3) / 8;
    const double expected = std::atan(double(w) / double(h));
    const double unit = std::abs(std::nextafter(T(expected), T(4)) - T(expected));
    right &= std::abs(double(atan_of_ratio(w, h)) - expected) <= 2 * unit;
  }
  expect(right, "angle");
}

template <class T>
void check_type(const Sizes& s, double tolerance) {
  for (Layout layout : {Layout::dense, Layout::spaced, Layout::coordinates_first}) {
    check_exact_iou<T>(s, layout);
    check_metrics<T>(s, layout, tolerance);
  }
  if (s.n * s.m > 100000) return;  // differences are slow
  check_gradients<T>(s, Layout::dense, false, 100 * tolerance);
  check_gradients<T>(s, Layout::spaced, true, 100 * tolerance);
}

void check_isa(const std::vector<Sizes>& all_sizes) {
  for (const Sizes& s : all_sizes) {
    check_type<float>(s, 1e-5);
    check_type<double>(s, 1e-9);
    check_exact_iou<Half>(s, Layout::dense);
    check_exact_iou<BFloat16>(s, Layout::spaced);
  }
  check_angles<float>();
  check_angles<double>();
  for (int64_t n : {0, 1, 15, 16, 37}) {
    check_losses<float>(n, 1e-4);
    check_losses<double>(n, 1e-7);
    check_half_losses<Half>(n);
    check_half_losses<BFloat16>(n);
  }
}

}  // namespace
}  // namespace gcv

int main(int argc, char** argv) {
  std::vector<gcv::Sizes> sizes = {{1, 1, 1}, {2, 3, 5}, {1, 70, 16}, {3, 5, 33}, {1, 3, 1100}};
  if (argc > 1 && std::strcmp(argv[1], "full") == 0)
    sizes.insert(sizes.end(), {{1, 300, 2100}, {7, 129, 65}});
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (gcv::set_isa(isa)) {
      gcv::check_isa(sizes);
    } else {
      std::printf("skipped %s: this processor lacks it\n", gcv::isa_name(isa));
    }
  }
  std::printf("%s\n", gcv::failures ? "some checks failed" : "all checks passed");
  return gcv::failures ? 1 : 0;
}
