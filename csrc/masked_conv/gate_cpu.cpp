// Runs of neighbours, a few hundred at a time: read where they lie, or copied, and widened, into buffers.
#include "masked_conv/gate.h"
#include "masked_conv/tap_conv_maps_cpu.h"

namespace gcv::GCV_ISA {
namespace {

constexpr int64_t kRun = 512, kBlock = 64, kAhead = 512;  // numbers

// Where an item's numbers lie: `count` of them along dimension `inner`, and `steps` such runs along `outer`.
struct Walk {
  int64_t image, fixed, fixed_at, outer, steps, inner, count;
};

bool is_channels_last(const GateParams& p) { return p.output.strides[1] == 1 && p.output.strides[3] != 1; }

// Rows follow each other without a gap, or all are one value.
bool rows_join(const ConvMaps& maps, int64_t width) {
  return maps.data == nullptr || maps.strides[2] == width * maps.strides[3];
}

bool rows_join(const GateParams& p) {
  for (const ConvMaps* maps : {&p.sums, &p.condition, &p.output, &p.grad, &p.grad_sums}) {
    if (!rows_join(*maps, p.width)) return false;
  }
  return true;
}

// An item is a row of pixels, or the plane of a channel.
Walk walk_of(const GateParams& p, int64_t item) {
  if (is_channels_last(p)) return {item / p.height, 2, item % p.height, 3, p.width, 1, p.channels};
  const Walk plane{item / p.channels, 1, item % p.channels, 2, p.height, 3, p.width};
  return rows_join(p) ? Walk{plane.image, 1, plane.fixed_at, 2, 1, 3, p.height * p.width} : plane;
}

template <class Element>
Element* run_of(const ConvMaps& maps, const Walk& walk, int64_t step, int64_t first, int64_t channels) {
  return static_cast<Element*>(maps.data) + walk.image * maps.strides[0] +
         walk.fixed_at * maps.strides[walk.fixed] + step * maps.strides[walk.outer] +
         first * maps.strides[walk.inner] + channels * maps.strides[1];
}

// Calls run(step, first, count) for the item's runs.
template <class Run>
void for_each_run(const Walk& walk, const Run& run) {
  for (int64_t step = 0; step < walk.steps; ++step) {
    for (int64_t first = 0; first < walk.count; first += kRun)
      run(step, first, smaller(kRun, walk.count - first));
  }
}

// `kept`: memory holds the run since the last step.
template <class Element>
const ComputeOf<Element>* read_run(const Element* from, int64_t stride, int64_t count,
                                   ComputeOf<Element>* memory, bool kept = false) {
  if constexpr (std::is_same<Element, ComputeOf<Element>>::value) {
    if (stride == 1) return from;
  }
  if (!kept) copy_channels(from, stride, count, memory);
  return memory;
}

// Where to compute what `finish_run` brings to its place.
template <class Element>
ComputeOf<Element>* place_run(Element* to, int64_t stride, ComputeOf<Element>* memory) {
  if constexpr (std::is_same<Element, ComputeOf<Element>>::value) {
    if (stride == 1) return to;
  }
  return memory;
}

template <class Element>
void finish_run(const ComputeOf<Element>* from, int64_t count, int64_t stride, Element* to) {
  if (static_cast<const void*>(from) == to) return;
  if (stride == 1) return narrow_all(from, count, to);
  for (int64_t i = 0; i < count; ++i) narrow(from[i], to[i * stride]);
}

// A run of one half of the channels, and what is added: to each number its own, or one to all.
template <class T>
struct HalfRun {
  const T *sums, *each;
  T all;
};

template <class T>
struct HalfMemory {
  T sums[kRun], added[kRun];
};

template <class Element>
HalfRun<ComputeOf<Element>> read_half(const GateParams& p, const Walk& walk, int64_t step, int64_t first,
                                      int64_t count, int64_t channels,
                                      HalfMemory<ComputeOf<Element>>& memory) {
  const int64_t stride = p.condition.strides[walk.inner];
  const auto* sums = read_run(run_of<const Element>(p.sums, walk, step, first, channels),
                              p.sums.strides[walk.inner], count, memory.sums);
  if (p.condition.data == nullptr) return {sums, nullptr, 0};
  const auto* added = run_of<const Element>(p.condition, walk, step, first, channels);
  if (stride == 0) return {sums, nullptr, widen(*added)};
  const bool kept = step > 0 && p.condition.strides[walk.outer] == 0 && walk.count <= kRun;
  return {sums, read_run(added, stride, count, memory.added, kept), 0};
}

// What is needed soon is on its way: the processor's own prefetcher stops at the end of a page. In few lines
// at a time, for more would wait for each other.
template <bool kWrite, class T>
void fetch(const T* block) {
  for (int64_t i = 0; i < kBlock; i += kLine / int64_t(sizeof(T)))
    __builtin_prefetch(block + kAhead + i, kWrite);
}

// Calls ahead(i) for every block, then each(i, sum of the first half, sum of the second) for its numbers,
// which writes nobody's input: of so many pointers the compiler would check none, and make no vectors.
template <class T, class Ahead, class Each>
void for_each_sum(const HalfRun<T>& a, const HalfRun<T>& b, int64_t count, const Ahead& ahead,
                  const Each& each) {
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t last = smaller(first + kBlock, count);
    fetch<false>(a.sums + first);
    fetch<false>(b.sums + first);
    ahead(first);
    if (a.each == nullptr) {
#pragma GCC ivdep
      for (int64_t i = first; i < last; ++i) each(i, a.sums[i] + a.all, b.sums[i] + b.all);
    } else {
#pragma GCC ivdep
      for (int64_t i = first; i < last; ++i) each(i, a.sums[i] + a.each[i], b.sums[i] + b.each[i]);
    }
  }
}

template <class Element>
void forward(const GateParams& p, int64_t begin, int64_t end) {
  using T = ComputeOf<Element>;
  HalfMemory<T> memory[2];
  T computed[kRun];
  const int64_t stride = p.output.strides[walk_of(p, begin).inner];
  for (int64_t item = begin; item < end; ++item) {
    const Walk walk = walk_of(p, item);
    for_each_run(walk, [&](int64_t step, int64_t first, int64_t count) {
      const HalfRun<T> a = read_half<Element>(p, walk, step, first, count, 0, memory[0]);
      const HalfRun<T> b = read_half<Element>(p, walk, step, first, count, p.channels, memory[1]);
      Element* to = run_of<Element>(p.output, walk, step, first, 0);
      T* const gated = place_run(to, stride, computed);
      for_each_sum(
          a, b, count, [&](int64_t i) { fetch<true>(gated + i); },
          [&](int64_t i, T x, T y) { gated[i] = gate(x, y); });
      finish_run(gated, count, stride, to);
    });
  }
}

template <class Element>
void backward(const GateParams& p, int64_t begin, int64_t end) {
  using T = ComputeOf<Element>;
  HalfMemory<T> memory[2];
  T grad_memory[kRun], computed[2][kRun];
  const int64_t inner = walk_of(p, begin).inner, stride = p.grad_sums.strides[inner];
  for (int64_t item = begin; item < end; ++item) {
    const Walk walk = walk_of(p, item);
    for_each_run(walk, [&](int64_t step, int64_t first, int64_t count) {
      const HalfRun<T> a = read_half<Element>(p, walk, step, first, count, 0, memory[0]);
      const HalfRun<T> b = read_half<Element>(p, walk, step, first, count, p.channels, memory[1]);
      const T* const grad = read_run(run_of<const Element>(p.grad, walk, step, first, 0),
                                     p.grad.strides[inner], count, grad_memory);
      Element *to_a = run_of<Element>(p.grad_sums, walk, step, first, 0),
              *to_b = run_of<Element>(p.grad_sums, walk, step, first, p.channels);
      T* const grad_a = place_run(to_a, stride, computed[0]);
      T* const grad_b = place_run(to_b, stride, computed[1]);
      const auto ahead = [&](int64_t i) {
        fetch<false>(grad + i);
        fetch<true>(grad_a + i);
        fetch<true>(grad_b + i);
      };
      for_each_sum(a, b, count, ahead,
                   [&](int64_t i, T x, T y) { gate_backward(grad[i], x, y, grad_a[i], grad_b[i]); });
      finish_run(grad_a, count, stride, to_a);
      finish_run(grad_b, count, stride, to_b);
    });
  }
}

}  // namespace

int64_t gate_items_cpu(const GateParams& p) {
  return p.images * (is_channels_last(p) ? p.height : p.channels);
}

void gate_cpu(const GateParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, forward, p, begin, end);
}

void gate_backward_cpu(const GateParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, backward, p, begin, end);
}

}  // namespace gcv::GCV_ISA
