// The detections kept so far, class by class, and the question whether one of them overlaps a box too much.
// Only *_cpu.cpp files include this.
#pragma once

#include <limits>

#include "common/box.h"
#include "common/float_bits.h"
#include "common/simd.h"
#include "common/workspace.h"

namespace gcv {
namespace {

inline constexpr int kGroup = 16;  // whole vectors of any instruction set

template <class T>
struct KeptGroup {
  T x1[kGroup], y1[kGroup], x2[kGroup], y2[kGroup], area[kGroup];  // NaN areas past the last: no overlap
  int32_t count, next;
};

// Room for `most` boxes in all, of any classes: each class has a chain of groups.
template <class T>
class KeptByClass {
 public:
  KeptByClass() = default;

  KeptByClass(Workspace& w, int64_t most, int64_t classes, double iou_threshold)
      : groups_(w.take<KeptGroup<T>>(most / kGroup + smaller(most, classes) + 1)),
        heads_(w.take<int32_t>(classes)),
        classes_(classes),
        threshold_(floor_to<T>(iou_threshold)),
        prunes_(iou_threshold >= 0),
        likely_(iou_threshold > FloatTraits<T>::kSmallArea ? T(iou_threshold * 0.999) : T(0)) {}

  void clear() {
    memset(heads_, 0xff, size_t(classes_) * sizeof(int32_t));
    used_ = 0;
  }

  bool suppresses(const Box<T>& box, T box_area, int64_t class_id) const {
    if (prunes_ && !can_overlap(box, box_area)) return false;
    using V = Simd<T>;
    const Box<V> other{splat(box.x1), splat(box.y1), splat(box.x2), splat(box.y2)};
    const V other_area = splat(box_area), likely = splat(likely_), threshold = splat(threshold_);
    for (int32_t g = heads_[class_id]; g >= 0; g = groups_[g].next) {
      const KeptGroup<T>& kept = groups_[g];
      for (int k = 0; k < kept.count; k += kLanes<T>) {
        const Box<V> some{load(kept.x1 + k), load(kept.y1 + k), load(kept.x2 + k), load(kept.y2 + k)};
        const V inter = intersection(some, other);
        const V both = union_area(load(kept.area + k), other_area, inter);
        // A product screens; the division, which is slow, decides.
        if (prunes_ && !any(inter >= likely * both)) continue;
        if (any(exact::div(inter, both) > threshold)) return true;
      }
    }
    return false;
  }

  void add(const Box<T>& box, T box_area, int64_t class_id) {
    if (prunes_ && !can_overlap(box, box_area)) return;
    int32_t& head = heads_[class_id];
    if (head < 0 || groups_[head].count == kGroup) {
      KeptGroup<T>& fresh = groups_[used_];
      memset(&fresh, 0xff, sizeof fresh);
      fresh.count = 0;
      fresh.next = head;
      head = used_++;
    }
    KeptGroup<T>& group = groups_[head];
    const int k = group.count++;
    group.x1[k] = box.x1, group.y1[k] = box.y1, group.x2[k] = box.x2, group.y2[k] = box.y2;
    group.area[k] = box_area;
  }

 private:
  KeptGroup<T>* groups_;
  int32_t* heads_;
  int64_t classes_;
  int32_t used_ = 0;
  T threshold_;
  bool prunes_;
  T likely_;
};

}  // namespace
}  // namespace gcv
