// Runs of neighbours, a few hundred at a time: copied, and widened, into buffers that every layout shares.
#include "masked_conv/gate.h"
#include "masked_conv/tap_conv_maps_cpu.h"

namespace gcv::GCV_ISA {
namespace {

constexpr int64_t kRun = 512;

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

// One half of the channels.
template <class Element>
void load_half(const GateParams& p, const Walk& walk, int64_t step, int64_t first, int64_t count,
               int64_t channels, ComputeOf<Element>* to) {
  using T = ComputeOf<Element>;
  copy_channels(run_of<const Element>(p.sums, walk, step, first, channels), p.sums.strides[walk.inner], count,
                to);
  if (p.condition.data == nullptr) return;
  T added[kRun];
  copy_channels(run_of<const Element>(p.condition, walk, step, first, channels),
                p.condition.strides[walk.inner], count, added);
  for (int64_t i = 0; i < count; ++i) to[i] += added[i];
}

template <class Element>
void store_run(const ComputeOf<Element>* from, int64_t count, int64_t stride, Element* to) {
  if (stride == 1) return narrow_all(from, count, to);
  for (int64_t i = 0; i < count; ++i) narrow(from[i], to[i * stride]);
}

template <class Element>
void forward(const GateParams& p, int64_t begin, int64_t end) {
  using T = ComputeOf<Element>;
  T a[kRun], b[kRun];
  for (int64_t item = begin; item < end; ++item) {
    const Walk walk = walk_of(p, item);
    for_each_run(walk, [&](int64_t step, int64_t first, int64_t count) {
      load_half<Element>(p, walk, step, first, count, 0, a);
      load_half<Element>(p, walk, step, first, count, p.channels, b);
      for (int64_t i = 0; i < count; ++i) a[i] = gate(a[i], b[i]);
      store_run(a, count, p.output.strides[walk.inner], run_of<Element>(p.output, walk, step, first, 0));
    });
  }
}

template <class Element>
void backward(const GateParams& p, int64_t begin, int64_t end) {
  using T = ComputeOf<Element>;
  T a[kRun], b[kRun], grad[kRun];
  for (int64_t item = begin; item < end; ++item) {
    const Walk walk = walk_of(p, item);
    for_each_run(walk, [&](int64_t step, int64_t first, int64_t count) {
      load_half<Element>(p, walk, step, first, count, 0, a);
      load_half<Element>(p, walk, step, first, count, p.channels, b);
      copy_channels(run_of<const Element>(p.grad, walk, step, first, 0), p.grad.strides[walk.inner], count,
                    grad);
      for (int64_t i = 0; i < count; ++i) {
        T grad_a, grad_b;
        gate_backward(grad[i], a[i], b[i], grad_a, grad_b);
        a[i] = grad_a;
        b[i] = grad_b;
      }
      const int64_t stride = p.grad_sums.strides[walk.inner];
      store_run(a, count, stride, run_of<Element>(p.grad_sums, walk, step, first, 0));
      store_run(b, count, stride, run_of<Element>(p.grad_sums, walk, step, first, p.channels));
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
