// The launchers of csrc/boxes/iou_cuda.h, executed by the emulator, against plain loops. Buffers have
// exactly the documented sizes, so that AddressSanitizer sees a step beyond them.
#include <string>

#include "boxes/iou_cuda.h"
#include "boxes_iou_naive.h"
#include "emulated_cases.h"

namespace gcv {
namespace {

constexpr double kEps = 1e-3;
constexpr IouKind kKinds[] = {IouKind::iou, IouKind::giou, IouKind::diou, IouKind::ciou};

std::string name_of(const char* what, IouKind kind) {
  return std::string(what) + ", kind " + std::to_string(int(kind));
}

struct Sizes {
  int64_t batch, n, m;
};

template <class Element>
void check_exact_iou(const Sizes& s, Layout layout) {
  using T = typename Compute<Element>::type;
  const auto boxes1 = make_boxes(s.batch * s.n, 1, Place::grid),
             boxes2 = make_boxes(s.batch * s.m, 2, Place::grid);
  const std::vector<T> exact1(boxes1.begin(), boxes1.end()), exact2(boxes2.begin(), boxes2.end());
  const StoredBoxes<Element> a(boxes1, s.batch, layout), b(boxes2, s.batch, layout);
  std::vector<T> result(s.batch * s.n * s.m, -7);
  check_launch(pairwise_iou_cuda(
      {a.list, b.list, s.batch, result.data(), DTypeOf<Element>::value, IouKind::iou, 0, false}, nullptr));
  for (int64_t i = 0; i < s.batch * s.n; ++i) {
    for (int64_t j = 0; j < s.m; ++j) {
      T whole;
      const T expected = naive_iou(&exact1[4 * i], &exact2[4 * (i / s.n * s.m + j)], &whole, false, T(0));
      const T got = result[i * s.m + j];
      require(got == expected || (got != got && expected != expected), "IoU to the bit");
    }
  }
}

void check_iou() {
  check_exact_iou<float>({2, 3, 5}, Layout::dense);
  check_exact_iou<float>({1, 35, 40}, Layout::coordinates_first);
  check_exact_iou<float>({1, 17, 300}, Layout::dense);
  check_exact_iou<float>({1, 600, 2}, Layout::dense);
  check_exact_iou<double>({1, 20, 70}, Layout::spaced);
  check_exact_iou<Half>({1, 20, 9}, Layout::dense);
  check_exact_iou<BFloat16>({2, 20, 9}, Layout::spaced);
}

template <class T>
void check_metrics_of(const Sizes& s, double tolerance) {
  const auto boxes1 = make_boxes(s.batch * s.n, 3, Place::anywhere);
  const auto boxes2 = make_boxes(s.batch * s.m, 4, Place::anywhere);
  const StoredBoxes<T> a(boxes1, s.batch, Layout::dense), b(boxes2, s.batch, Layout::dense);
  for (IouKind kind : kKinds) {
    std::vector<T> result(s.batch * s.n * s.m);
    check_launch(pairwise_iou_cuda(
        {a.list, b.list, s.batch, result.data(), DTypeOf<T>::value, kind, kEps, false}, nullptr));
    for (int64_t i = 0; i < s.batch * s.n; ++i) {
      for (int64_t j = 0; j < s.m; ++j) {
        const double *one = &boxes1[4 * i], *two = &boxes2[4 * (i / s.n * s.m + j)];
        const double weight = naive_weight(one, two, false, kEps);
        require(close(result[i * s.m + j], naive_metric(kind, one, two, false, kEps, weight), tolerance),
                name_of("metric", kind));
      }
    }
  }
}

void check_metrics() {
  check_metrics_of<float>({2, 18, 11}, 1e-5);
  check_metrics_of<double>({1, 7, 33}, 1e-9);
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
void check_gradients_of(const Sizes& s, bool transposed, double tolerance) {
  const auto boxes1 = make_boxes(s.batch * s.n, 5, Place::anywhere);
  const auto boxes2 = make_boxes(s.batch * s.m, 6, Place::anywhere);
  const StoredBoxes<T> a(boxes1, s.batch, Layout::spaced), b(boxes2, s.batch, Layout::dense);
  const int64_t row = transposed ? 1 : s.m, column = transposed ? s.n : 1;
  std::vector<T> grad(s.batch * s.n * s.m);
  for (size_t i = 0; i < grad.size(); ++i) grad[i] = T(int(i * 7 % 11) - 5) / 4;
  for (IouKind kind : kKinds) {
    std::vector<T> grad1(boxes1.size()), grad2(boxes2.size());
    check_launch(pairwise_iou_backward_cuda({grad.data(), s.n * s.m, row, column, a.list, b.list, s.batch,
                                             grad1.data(), grad2.data(), DTypeOf<T>::value, kind, kEps},
                                            nullptr));
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
    for (int64_t i = 0; i < s.batch * s.n; ++i)
      require(close_boxes(&grad1[4 * i], expected1[i], tolerance), name_of("gradient of rows", kind));
    for (int64_t j = 0; j < s.batch * s.m; ++j)
      require(close_boxes(&grad2[4 * j], expected2[j], tolerance), name_of("gradient of columns", kind));
  }
}

void check_gradients() {
  check_gradients_of<float>({2, 5, 19}, false, 1e-3);
  check_gradients_of<double>({1, 17, 16}, true, 1e-6);
  check_gradients_of<double>({1, 3, 130}, false, 1e-6);
}

// `offset`: how many elements into its memory the view of the boxes begins.
template <class T>
void check_losses_of(int64_t n, int64_t offset, double tolerance) {
  const auto boxes1 = make_boxes(n, 7, Place::anywhere), boxes2 = make_boxes(n, 8, Place::anywhere);
  std::vector<T> a(4 * n + offset), b(boxes2.begin(), boxes2.end());
  std::copy(boxes1.begin(), boxes1.end(), a.begin() + offset);
  std::vector<T> grad(n), result(n), grad1(4 * n), grad2(4 * n);
  for (int64_t i = 0; i < n; ++i) grad[i] = T(i % 5) - T(1.5);
  for (IouKind kind : {IouKind::giou, IouKind::diou, IouKind::ciou}) {
    check_launch(iou_loss_cuda({a.data() + offset, b.data(), result.data(), n, DTypeOf<T>::value, kind, kEps},
                               nullptr));
    check_launch(iou_loss_backward_cuda({grad.data(), a.data() + offset, b.data(), grad1.data(), grad2.data(),
                                         n, DTypeOf<T>::value, kind, kEps},
                                        nullptr));
    for (int64_t i = 0; i < n; ++i) {
      const double *one = &boxes1[4 * i], *two = &boxes2[4 * i], weight = naive_weight(one, two, true, kEps);
      Box<double> expected1{}, expected2{};
      add_scaled(expected1, naive_gradient(kind, one, two, true, kEps), -grad[i]);
      add_scaled(expected2, naive_gradient(kind, two, one, true, kEps), -grad[i]);
      require(close(result[i], 1 - naive_metric(kind, one, two, true, kEps, weight), tolerance),
              name_of("loss", kind));
      require(close_boxes(&grad1[4 * i], expected1, tolerance), name_of("gradient of a loss", kind));
      require(close_boxes(&grad2[4 * i], expected2, tolerance), name_of("gradient of a loss", kind));
    }
  }
}

void check_losses() {
  check_losses_of<float>(5, 0, 1e-4);
  check_losses_of<float>(5, 1, 1e-4);
  check_losses_of<double>(300, 0, 1e-7);
}

void check_empty() {
  check_launch(pairwise_iou_cuda({{}, {}, 1, nullptr, DType::f32, IouKind::iou, 0, false}, nullptr));
  check_launch(pairwise_iou_backward_cuda({}, nullptr));
  check_launch(iou_loss_cuda({}, nullptr));
  check_launch(iou_loss_backward_cuda({}, nullptr));
}

const EmulatedCases kCases = {
    {"iou", check_iou},       {"metrics", check_metrics}, {"gradients", check_gradients},
    {"losses", check_losses}, {"empty", check_empty},
};

}  // namespace
}  // namespace gcv

int main(int argc, char** argv) { return gcv::run_cases(gcv::kCases, argc, argv); }
