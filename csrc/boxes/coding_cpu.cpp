// Encoding, decoding and clipping on the CPU.
#include <string.h>

#include "boxes/coding.h"
#include "boxes/coding_rows.h"
#include "boxes/row_map_cpu.h"

namespace gcv::GCV_ISA {
namespace {

template <class Element>
void encode(const BoxEncodeParams& p, int64_t begin, int64_t end) {
  using T = ComputeOf<Element>;
  map_rows<EncodeRow<T>, Element>(coder_constants<T>(p.weights), {p.reference_boxes, p.proposals}, {p.deltas},
                                  begin, end);
}

template <class Element>
void encode_backward(const BoxEncodeBackwardParams& p, int64_t begin, int64_t end) {
  using T = ComputeOf<Element>;
  map_rows<EncodeBackwardRow<T>, Element>(coder_constants<T>(p.weights),
                                          {p.grad, p.reference_boxes, p.proposals},
                                          {p.grad_reference_boxes, p.grad_proposals}, begin, end);
}

BoxRows repeated(BoxRows rows, int64_t times) {
  rows.repeat = times;
  return rows;
}

template <class Element>
void decode(const BoxDecodeParams& p, int64_t begin, int64_t end) {
  using T = ComputeOf<Element>;
  map_rows<DecodeRow<T>, Element>(coder_constants<T>(p.weights, p.clip),
                                  {p.deltas, repeated(p.anchors, p.classes)}, {p.boxes}, begin, end);
}

// Sums the gradients of an anchor over its classes, in their order, and goes on where a block ends amid them.
template <class Element>
class AnchorSums {
 public:
  AnchorSums(void* sums, int64_t first, int64_t classes)
      : sum_(static_cast<Element*>(sums) + 4 * first), classes_(classes) {}

  void add(const ComputeOf<Element> (*grads)[kBlockRows], int rows) {
    for (int i = 0; i < rows; ++i) {
      for (int k = 0; k < 4; ++k) running_[k] += grads[k][i];
      if (++added_ < classes_) continue;
      for (int k = 0; k < 4; ++k) {
        narrow(running_[k], sum_[k]);
        running_[k] = 0;
      }
      sum_ += 4;
      added_ = 0;
    }
  }

 private:
  ComputeOf<Element> running_[4] = {};
  Element* sum_;
  int64_t classes_;
  int64_t added_ = 0;
};

template <class Element>
void decode_backward_of_classes(const BoxDecodeBackwardParams& p, int64_t begin, int64_t end) {
  using T = ComputeOf<Element>;
  using Maths = DecodeBackwardRow<T>;
  const auto constants = coder_constants<T>(p.weights, p.clip);
  const BoxRows in[] = {p.grad, p.deltas, repeated(p.anchors, p.classes)};
  AnchorSums<Element> sums(p.grad_anchors, begin, p.classes);
  RowBlock<T, Maths::In::kTotal> arguments;
  RowBlock<T, Maths::Out::kTotal> results;
  for (int64_t first = begin * p.classes; first < end * p.classes; first += kBlockRows) {
    const int64_t left = end * p.classes - first;
    const int rows = int(left < kBlockRows ? left : kBlockRows);
    read_all<Element>(typename Maths::In{}, in, first, rows, arguments.numbers);
    apply_rows<Maths>(constants, arguments, rows, results);
    write_rows<4>(results.numbers, rows, static_cast<Element*>(p.grad_deltas) + 4 * first);
    sums.add(results.numbers + 4, rows);
  }
}

template <class Element>
void decode_backward(const BoxDecodeBackwardParams& p, int64_t begin, int64_t end) {
  using T = ComputeOf<Element>;
  if (p.classes == 0)
    memset(static_cast<Element*>(p.grad_anchors) + 4 * begin, 0, size_t(end - begin) * 4 * sizeof(Element));
  if (p.classes != 1) return decode_backward_of_classes<Element>(p, begin, end);
  map_rows<DecodeBackwardRow<T>, Element>(coder_constants<T>(p.weights, p.clip),
                                          {p.grad, p.deltas, p.anchors}, {p.grad_deltas, p.grad_anchors},
                                          begin, end);
}

template <class Element>
void clip(const ClipBoxesParams& p, int64_t begin, int64_t end) {
  map_rows<ClipRow<ComputeOf<Element>>, Element>(image_size<Element>(p.height, p.width), {p.boxes},
                                                 {p.clipped}, begin, end);
}

template <class Element>
void clip_backward(const ClipBoxesBackwardParams& p, int64_t begin, int64_t end) {
  map_rows<ClipBackwardRow<ComputeOf<Element>>, Element>(image_size<Element>(p.height, p.width),
                                                         {p.grad, p.boxes}, {p.grad_boxes}, begin, end);
}

}  // namespace

void box_encode_cpu(const BoxEncodeParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, encode, p, begin, end);
}

void box_encode_backward_cpu(const BoxEncodeBackwardParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, encode_backward, p, begin, end);
}

void box_decode_cpu(const BoxDecodeParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, decode, p, begin, end);
}

void box_decode_backward_cpu(const BoxDecodeBackwardParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, decode_backward, p, begin, end);
}

void clip_boxes_cpu(const ClipBoxesParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, clip, p, begin, end);
}

void clip_boxes_backward_cpu(const ClipBoxesBackwardParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, clip_backward, p, begin, end);
}

}  // namespace gcv::GCV_ISA
