// Soft-NMS on the CPU: each pass lowers the scores that the selected box overlaps and finds the next highest.
#include <cmath>
#include <initializer_list>

#include "common/simd.h"
#include "common/workspace.h"
#include "nms/box_input.h"
#include "nms/kept_boxes.h"
#include "nms/nms.h"

namespace gcv {

template <>
struct ExpTraits<Simd<float>> {
  using Scalar = float;
  using Bits = Simd<uint32_t>;
};
template <>
struct ExpTraits<Simd<double>> {
  using Scalar = double;
  using Bits = Simd<uint64_t>;
};

namespace GCV_ISA {
namespace {

template <class T>
struct Arrays {
  T *x1, *y1, *x2, *y2, *area, *score;  // [n rounded up to whole vectors]
  int64_t padded;
  size_t bytes;

  static Arrays carve(const SoftNmsParams& p, void* base) {
    Arrays a;
    a.padded = (p.n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
    Workspace w(base);
    for (T** array : {&a.x1, &a.y1, &a.x2, &a.y2, &a.area, &a.score}) *array = w.take<T>(a.padded);
    a.bytes = w.used();
    return a;
  }

  Box<T> box(int64_t i) const { return {x1[i], y1[i], x2[i], y2[i]}; }
};

// NaN marks what can never be selected: padding, NaN scores, boxes already taken.
template <class Element, class T>
void fill(const SoftNmsParams& p, const Arrays<T>& a) {
  const auto* boxes = static_cast<const Element*>(p.boxes);
  const auto* scores = static_cast<const Element*>(p.scores);
  for (int64_t i = 0; i < a.padded; ++i) {
    const bool real = i < p.n;
    const Box<T> box = real ? box_at(boxes, p, i) : Box<T>{};
    a.x1[i] = box.x1;
    a.y1[i] = box.y1;
    a.x2[i] = box.x2;
    a.y2[i] = box.y2;
    a.area[i] = area(box);
    a.score[i] = real ? T(widen(scores[i * p.score_stride])) : T(NAN);
  }
}

template <class T>
T highest(Simd<T> values) {
  T result = values[0];
  for (int lane = 1; lane < kLanes<T>; ++lane) result = larger(result, values[lane]);
  return result;
}

// -inf before the first selection; NaN never wins.
template <class T>
T highest_score(const Arrays<T>& a) {
  Simd<T> best = splat(T(-INFINITY));
  for (int64_t i = 0; i < a.padded; i += kLanes<T>) best = larger(best, load(a.score + i));
  return highest<T>(best);
}

// Lowers every score that `taken` overlaps; returns the highest that is left.
template <class T>
T decay(const SoftNmsParams& p, const Arrays<T>& a, int64_t taken) {
  using V = Simd<T>;
  const V zero{}, threshold = splat(floor_to<T>(p.iou_threshold)), sigma = splat(T(p.sigma));
  const Box<T> box = a.box(taken);
  const Box<V> selected{splat(box.x1), splat(box.y1), splat(box.x2), splat(box.y2)};
  const V selected_area = splat(a.area[taken]);
  V best = splat(T(-INFINITY));
  for (int64_t i = 0; i < a.padded; i += kLanes<T>) {
    const Box<V> other{load(a.x1 + i), load(a.y1 + i), load(a.x2 + i), load(a.y2 + i)};
    V score = load(a.score + i);
    const V inter = intersection(selected, other);
    if (any(inter > zero)) {
      const V overlap = exact::div(inter, union_area(selected_area, load(a.area + i), inter));
      score = decayed(score, overlap, threshold, sigma, p.method);
      store(a.score + i, score);
    }
    best = larger(best, score);
  }
  return highest<T>(best);
}

template <class T>
int64_t first_with(const Arrays<T>& a, T score) {
  const Simd<T> wanted = splat(score);
  int64_t i = 0;
  while (!any(load(a.score + i) == wanted)) i += kLanes<T>;
  while (a.score[i] != score) ++i;
  return i;
}

template <class Element>
int64_t run(const SoftNmsParams& p, void* workspace, int64_t* keep, void* decayed_scores) {
  using T = typename Compute<Element>::type;
  const Arrays<T> a = Arrays<T>::carve(p, workspace);
  fill<Element>(p, a);
  auto* out = static_cast<Element*>(decayed_scores);
  const T least = floor_to<T>(p.score_threshold);
  int64_t count = 0;
  for (T best = highest_score(a); best > least;) {
    const int64_t taken = first_with(a, best);
    keep[count] = taken;
    narrow(best, out[count++]);
    a.score[taken] = T(NAN);
    best = decay(p, a, taken);
  }
  return count;
}

}  // namespace

size_t soft_nms_workspace_bytes(const SoftNmsParams& p) {
  return p.dtype == DType::f64 ? Arrays<double>::carve(p, nullptr).bytes
                               : Arrays<float>::carve(p, nullptr).bytes;
}

int64_t soft_nms_cpu(const SoftNmsParams& p, void* workspace, int64_t* keep, void* decayed) {
  return GCV_BY_DTYPE(p.dtype, run, p, workspace, keep, decayed);
}

}  // namespace GCV_ISA
}  // namespace gcv
