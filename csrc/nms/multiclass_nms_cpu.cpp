// Greedy suppression of every class of every image, then the best of each image.
#include "common/dtype_arrays.h"
#include "nms/box_input.h"
#include "nms/kept_boxes.h"
#include "nms/nms.h"
#include "nms/score_sort.h"

namespace gcv::GCV_ISA {
namespace {

template <class T>
struct TaskMemory {
  using Item = KeyIndex<ScoreKey<T>>;
  Item *items, *scratch;  // [max(n, classes * most_per_class)]
  Box<T>* boxes;          // [n]
  KeptArrays<T> kept;
  size_t bytes;

  static TaskMemory carve(const MulticlassNmsParams& p, void* base) {
    const int64_t merged = p.classes * p.most_per_class();
    Workspace w(base);
    TaskMemory m;
    m.items = w.take<Item>(merged > p.n ? merged : p.n);
    m.scratch = w.take<Item>(merged > p.n ? merged : p.n);
    m.boxes = w.take<Box<T>>(p.n);
    m.kept = KeptArrays<T>::carve(w, p.n, p.n + kPadding);
    m.bytes = w.used();
    return m;
  }
};

template <class Element>
const Element* class_scores(const MulticlassNmsParams& p, int64_t image, int64_t class_id) {
  return static_cast<const Element*>(p.scores) + image * p.score_image_stride +
         class_id * p.score_class_stride;
}

// Writes the scores above the threshold as sort keys; returns how many. Most are not: whole vectors are
// passed over.
template <class Element, class Item>
int64_t find_candidates(const MulticlassNmsParams& p, const Element* scores, Item* items) {
  using T = typename Compute<Element>::type;
  const T threshold = floor_to<T>(p.score_threshold);
  int64_t i = 0, n = 0;
  for (; p.score_stride == 1 && i + kLanes<T> <= p.n; i += kLanes<T>) {
    uint32_t above = lane_bits(load_wide(scores + i) > splat(threshold));
    for (; above; above &= above - 1) {
      const int64_t candidate = i + __builtin_ctz(above);
      items[n++] = {descending_key(widen(scores[candidate])), uint32_t(candidate)};
    }
  }
  for (; i < p.n; ++i) {
    const T score = widen(scores[i * p.score_stride]);
    items[n] = {descending_key(score), uint32_t(i)};
    n += score > threshold;
  }
  return n;
}

// Writes the kept boxes of one class, best first; returns how many.
template <class Element>
int64_t run_class(const MulticlassNmsParams& p, const TaskMemory<typename Compute<Element>::type>& m,
                  int64_t image, int64_t class_id, uint32_t* out) {
  using T = typename Compute<Element>::type;
  const Element* scores = class_scores<Element>(p, image, class_id);
  const int64_t n = find_candidates(p, scores, m.items);
  SortedOnDemand<ScoreKey<T>> best_first(m.items, m.scratch, n);
  const Element* boxes = static_cast<const Element*>(p.boxes) + image * p.image_stride;
  const int64_t most = smaller(p.most_per_class(), n);
  const bool early = most < kIndexFrom;  // no index is laid out, so boxes may be read as they come
  for (int64_t i = 0; i < n && !early; ++i) m.boxes[i] = box_at(boxes, p, best_first[i]);
  KeptBoxes<T> kept(m.kept, m.boxes, n, most, p.iou_threshold);
  int64_t count = 0;
  for (int64_t i = 0; i < n && count < most; ++i) {
    const uint32_t index = best_first[i];
    const Box<T> box = early ? box_at(boxes, p, index) : m.boxes[i];
    const T box_area = area(box);
    if (kept.suppresses(box, box_area, i)) continue;
    kept.add(box, box_area, i);
    out[count++] = index;
  }
  return count;
}

template <class Element>
void run_classes(const MulticlassNmsParams& p, void* workspace, int64_t begin, int64_t end) {
  const auto m = TaskMemory<typename Compute<Element>::type>::carve(p, workspace);
  for (int64_t task = begin; task < end; ++task) {
    uint32_t* out = p.kept + task * p.most_per_class();
    p.kept_count[task] = uint32_t(run_class<Element>(p, m, task / p.classes, task % p.classes, out));
  }
}

// The sort is stable and starts class by class, so ties end at the lower class and, within it, at the lower
// box.
template <class Element>
void merge_image(const MulticlassNmsParams& p, const TaskMemory<typename Compute<Element>::type>& m,
                 int64_t image) {
  const int64_t most = p.most_per_class();
  const uint32_t* kept = p.kept + image * p.classes * most;
  int64_t n = 0;
  for (int64_t c = 0; c < p.classes; ++c) {
    const Element* scores = class_scores<Element>(p, image, c);
    for (int64_t k = 0; k < p.kept_count[image * p.classes + c]; ++k) {
      const int64_t slot = c * most + k;
      m.items[n++] = {descending_key(widen(scores[kept[slot] * p.score_stride])), uint32_t(slot)};
    }
  }
  const auto* sorted = radix_sort(m.items, m.scratch, n);
  const int64_t count = n < p.max_total ? n : p.max_total;
  int64_t* indices = p.indices + image * p.max_total * 2;
  Element* out_scores = static_cast<Element*>(p.out_scores) + image * p.max_total;
  for (int64_t i = 0; i < p.max_total; ++i) {
    const bool real = i < count;
    const int64_t slot = real ? sorted[i].index : 0;
    const int64_t class_id = real ? slot / most : -1, box = real ? int64_t(kept[slot]) : -1;
    indices[2 * i] = class_id;
    indices[2 * i + 1] = box;
    out_scores[i] = real ? class_scores<Element>(p, image, class_id)[box * p.score_stride] : Element{};
  }
  p.counts[image] = count;
}

template <class Element>
void merge_images(const MulticlassNmsParams& p, void* workspace, int64_t begin, int64_t end) {
  const auto m = TaskMemory<typename Compute<Element>::type>::carve(p, workspace);
  for (int64_t image = begin; image < end; ++image) merge_image<Element>(p, m, image);
}

}  // namespace

size_t multiclass_nms_workspace_bytes(const MulticlassNmsParams& p) {
  return p.dtype == DType::f64 ? TaskMemory<double>::carve(p, nullptr).bytes
                               : TaskMemory<float>::carve(p, nullptr).bytes;
}

void multiclass_nms_classes_cpu(const MulticlassNmsParams& p, void* workspace, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, run_classes, p, workspace, begin, end);
}

void multiclass_nms_merge_cpu(const MulticlassNmsParams& p, void* workspace, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, merge_images, p, workspace, begin, end);
}

}  // namespace gcv::GCV_ISA
