// What the three phases of nms_*_cpu share in the workspace.
#pragma once

#include "common/box.h"
#include "nms/kept_boxes.h"
#include "nms/nms.h"

namespace gcv {
namespace {

template <class T>
struct NmsState {
  uint32_t* score_order;  // [n] box indices, best score first
  uint32_t* order;        // [n] the same, class by class; score_order itself where there are no classes
  uint32_t* group_start;  // [groups + 1] positions in order
  uint8_t* keep_flag;     // [n] by box index
  Box<T>* boxes;          // [n] by position in order
  KeptArrays<T> kept;     // slices for all groups
  void *score_keys, *score_scratch, *class_keys, *class_scratch;
  size_t bytes;

  static NmsState carve(const NmsParams& p, void* base) {
    const int64_t n = p.n, most_groups = p.class_ids ? n : 1;
    Workspace w(base);
    NmsState s;
    s.score_order = w.take<uint32_t>(n);
    s.order = p.class_ids ? w.take<uint32_t>(n) : s.score_order;
    s.group_start = w.take<uint32_t>(most_groups + 1);
    s.keep_flag = w.take<uint8_t>(n);
    // Keys are dead once the greedy pass begins: its arrays lie over them.
    Workspace keys = w;
    s.score_keys = keys.take<uint8_t>(n * 16);
    s.score_scratch = keys.take<uint8_t>(n * 16);
    s.class_keys = keys.take<uint8_t>(n * 16);
    s.class_scratch = keys.take<uint8_t>(n * 16);
    s.boxes = w.take<Box<T>>(n);
    s.kept = KeptArrays<T>::carve(w, n, n + most_groups * kPadding);
    s.bytes = keys.used() > w.used() ? keys.used() : w.used();
    return s;
  }

  KeptArrays<T> kept_arrays(int64_t group, int64_t start) const {
    return kept.slice(start, start + group * kPadding);
  }
};

}  // namespace
}  // namespace gcv
