// Greedy non-maximum suppression on the CPU: sort, then offer each box, best first, to the boxes kept so far.
#include "nms/box_input.h"
#include "nms/kept_boxes.h"
#include "nms/nms.h"
#include "nms/nms_state.h"
#include "nms/score_sort.h"

namespace gcv::GCV_ISA {
namespace {

template <class Key, class T>
int64_t group_by_key(const NmsParams& p, const NmsState<T>& s, int64_t lowest) {
  using Item = KeyIndex<Key>;
  Item* items = static_cast<Item*>(s.class_keys);
  for (int64_t i = 0; i < p.n; ++i) {
    const uint32_t index = s.score_order[i];
    items[i] = {Key(uint64_t(p.class_ids[index * p.class_stride]) - uint64_t(lowest)), index};
  }
  items = radix_sort(items, static_cast<Item*>(s.class_scratch), p.n);
  int64_t groups = 0;
  for (int64_t i = 0; i < p.n; ++i) {
    s.order[i] = items[i].index;
    if (i == 0 || items[i].key != items[i - 1].key) s.group_start[groups++] = uint32_t(i);
  }
  s.group_start[groups] = uint32_t(p.n);
  return groups;
}

// Groups the sorted boxes by class, keeping their order within each class; returns the number of groups.
template <class T>
int64_t group_by_class(const NmsParams& p, const NmsState<T>& s) {
  int64_t lowest = INT64_MAX, highest = INT64_MIN;
  for (int64_t i = 0; i < p.n; ++i) {
    const int64_t id = p.class_ids[i * p.class_stride];
    lowest = id < lowest ? id : lowest;
    highest = id > highest ? id : highest;
  }
  const bool narrow = uint64_t(highest) - uint64_t(lowest) <= UINT32_MAX;
  return narrow ? group_by_key<uint32_t>(p, s, lowest) : group_by_key<uint64_t>(p, s, lowest);
}

template <class Element>
int64_t prepare(const NmsParams& p, void* workspace) {
  using T = typename Compute<Element>::type;
  using Key = ScoreKey<T>;
  const NmsState<T> s = NmsState<T>::carve(p, workspace);
  const auto* scores = static_cast<const Element*>(p.scores);
  auto* items = reinterpret_cast<KeyIndex<Key>*>(s.score_keys);
  for (int64_t i = 0; i < p.n; ++i)
    items[i] = {descending_key(widen(scores[i * p.score_stride])), uint32_t(i)};
  items = radix_sort(items, reinterpret_cast<KeyIndex<Key>*>(s.score_scratch), p.n);
  for (int64_t i = 0; i < p.n; ++i) s.score_order[i] = items[i].index;
  if (p.class_ids && p.n > 0) return group_by_class(p, s);
  s.group_start[0] = 0;
  s.group_start[1] = uint32_t(p.n);
  return p.n > 0;
}

template <class Element>
void run_groups(const NmsParams& p, void* workspace, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  const NmsState<T> s = NmsState<T>::carve(p, workspace);
  const auto* elements = static_cast<const Element*>(p.boxes);
  for (int64_t group = begin; group < end; ++group) {
    const int64_t start = s.group_start[group], n = s.group_start[group + 1] - start;
    if (n == 1) {
      s.keep_flag[s.order[start]] = 1;
      continue;
    }
    Box<T>* boxes = s.boxes + start;
    for (int64_t i = 0; i < n; ++i) boxes[i] = box_at(elements, p, s.order[start + i]);
    KeptBoxes<T> kept(s.kept_arrays(group, start), boxes, n, n, p.iou_threshold);
    for (int64_t i = 0; i < n; ++i) {
      kept.prefetch(i);
      const Box<T> box = boxes[i];
      const T box_area = area(box);
      const bool keep = !kept.suppresses(box, box_area, i);
      s.keep_flag[s.order[start + i]] = keep;
      if (keep) kept.add(box, box_area, i);
    }
  }
}

template <class Element>
int64_t collect(const NmsParams& p, void* workspace, int64_t* keep) {
  const auto s = NmsState<typename Compute<Element>::type>::carve(p, workspace);
  int64_t count = 0;
  for (int64_t i = 0; i < p.n; ++i) {
    keep[count] = s.score_order[i];
    count += s.keep_flag[s.score_order[i]];
  }
  return count;
}

}  // namespace

size_t nms_workspace_bytes(const NmsParams& p) {
  return p.dtype == DType::f64 ? NmsState<double>::carve(p, nullptr).bytes
                               : NmsState<float>::carve(p, nullptr).bytes;
}

int64_t nms_prepare_cpu(const NmsParams& p, void* workspace) {
  return GCV_BY_DTYPE(p.dtype, prepare, p, workspace);
}

void nms_groups_cpu(const NmsParams& p, void* workspace, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, run_groups, p, workspace, begin, end);
}

int64_t nms_collect_cpu(const NmsParams& p, void* workspace, int64_t* keep) {
  return GCV_BY_DTYPE(p.dtype, collect, p, workspace, keep);
}

}  // namespace gcv::GCV_ISA
