// Removal of small boxes on the CPU: one bit per box, then the indices of the set bits.
#include "boxes/coding_rows.h"
#include "boxes/row_map_cpu.h"
#include "common/simd.h"

namespace gcv::GCV_ISA {
namespace {

static_assert(kBlockRows == 64, "a block of rows is a word of flags");

template <class T>
uint64_t large_bits(const RowBlock<T, 4>& boxes, Simd<T> min_size) {
  const auto& b = boxes.numbers;
  uint64_t bits = 0;
  for (int i = 0; i < kBlockRows; i += kLanes<T>) {
    const Box<Simd<T>> box = {load(&b[0][i]), load(&b[1][i]), load(&b[2][i]), load(&b[3][i])};
    bits |= uint64_t(lane_bits(is_large(box, min_size))) << i;
  }
  return bits;
}

template <class Element>
int64_t flag(const SmallBoxesParams& p, uint64_t* flags, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  RowBlock<T, 4> boxes = {};
  int64_t count = 0;
  for (int64_t word = begin; word < end; ++word) {
    const int64_t left = p.n - kBlockRows * word;
    const int rows = int(left < kBlockRows ? left : kBlockRows);
    read_rows<4, Element>(p.boxes, kBlockRows * word, rows, boxes.numbers);
    const uint64_t wanted = ~uint64_t(0) >> (kBlockRows - rows);
    flags[word] = large_bits(boxes, splat(T(p.min_size))) & wanted;
    count += __builtin_popcountll(flags[word]);
  }
  return count;
}

}  // namespace

int64_t flag_large_boxes_cpu(const SmallBoxesParams& p, uint64_t* flags, int64_t begin, int64_t end) {
  return GCV_BY_DTYPE(p.dtype, flag, p, flags, begin, end);
}

void list_large_boxes_cpu(const SmallBoxesParams&, const uint64_t* flags, int64_t begin, int64_t end,
                          int64_t* indices) {
  for (int64_t word = begin; word < end; ++word) {
    const int64_t first = kBlockRows * word;
    if (flags[word] == ~uint64_t(0)) {
      for (int64_t i = 0; i < kBlockRows; ++i) indices[i] = first + i;
      indices += kBlockRows;
      continue;
    }
    for (uint64_t bits = flags[word]; bits != 0; bits &= bits - 1) {
      *indices++ = first + __builtin_ctzll(bits);
    }
  }
}

}  // namespace gcv::GCV_ISA
