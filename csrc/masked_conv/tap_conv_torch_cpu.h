// Convolutions over taps of CPU tensors: layouts, memory and threads. Only *_torch_cpu.cpp files include
// this.
#pragma once

#include <algorithm>

#include "common/share_out.h"
#include "masked_conv/gate.h"
#include "masked_conv/tap_conv.h"
#include "masked_conv/tap_lists.h"

namespace gcv {

// A thread is worth waking for this many multiplications.
inline constexpr int64_t kProductsPerThread = int64_t(1) << 20;

// Slices at a time that a thread lays out.
inline constexpr int64_t kSlices = 4;

inline ConvMaps maps_of(const Tensor& t) {
  return {const_cast<void*>(t.const_data_ptr()), {t.stride(0), t.stride(1), t.stride(2), t.stride(3)}};
}

inline bool is_channels_last(const Tensor& t) {
  return t.stride(1) == 1 && t.stride(3) == t.size(1) && t.stride(2) == t.size(1) * t.size(3) &&
         t.size(1) > 1;
}

// Of `channels`, lying in memory as `like` does.
inline Tensor new_maps(const Tensor& like, int64_t channels) {
  const int64_t n = like.size(0), height = like.size(2), width = like.size(3);
  if (!is_channels_last(like)) return new_output(like, {n, channels, height, width});
  const Tensor dense = new_output(like, {n, height, width, channels});
  return torch::stable::transpose(torch::stable::transpose(dense, 1, 3), 2, 3);
}

// With the places of each plane side by side.
inline Tensor with_dense_planes(const Tensor& weight) {
  const bool dense = weight.stride(3) == 1 && weight.stride(2) == weight.size(3);
  return dense ? weight : torch::stable::contiguous(weight);
}

inline int64_t pixels_of(const Tensor& maps) { return maps.size(0) * maps.size(2) * maps.size(3); }

inline int64_t useful_threads(const Tensor& maps, const TapLists& taps) {
  return 1 + pixels_of(maps) * taps.products() / kProductsPerThread;
}

inline void run_tap_conv(const TapConvParams& p, int64_t useful) {
  const Scratch packed(tap_conv_packed_bytes_cpu(p));
  share_out(tap_conv_panels_cpu(p), 1, useful, 0,
            [&](void*, int64_t begin, int64_t end) { tap_conv_pack_cpu(p, packed.data(), begin, end); });
  share_out(tap_conv_bands_cpu(p), 1, useful, tap_conv_scratch_cpu(p),
            [&](void* scratch, int64_t begin, int64_t end) {
              tap_conv_cpu(p, packed.data(), scratch, begin, end);
            });
}

// What joins the sums; both may be absent.
struct ConvAddends {
  const Tensor* bias;       // [out channels], dense
  const Tensor* condition;  // [images, out channels, height, width], of any strides
};

inline Tensor tap_conv(const Tensor& input, const Tensor& weight, const ConvAddends& added,
                       const TapLists& taps, ConvEpilogue epilogue) {
  const int64_t out = weight.size(0);
  const int64_t channels = epilogue == ConvEpilogue::gate         ? out / 2
                           : epilogue == ConvEpilogue::concat_elu ? 2 * out
                                                                  : out;
  const Tensor output = new_maps(input, channels);
  const Tensor dense = with_dense_planes(weight);
  TapConvParams p{input.size(0),
                  input.size(2),
                  input.size(3),
                  input.size(1),
                  out,
                  taps.data(),
                  taps.size(),
                  maps_of(input),
                  maps_of(output),
                  dense.const_data_ptr(),
                  dense.stride(0),
                  dense.stride(1),
                  added.bias != nullptr ? added.bias->const_data_ptr() : nullptr,
                  {},
                  epilogue,
                  kernel_dtype(input.scalar_type())};
  if (added.condition != nullptr) p.condition = maps_of(*added.condition);
  if (pixels_of(input) > 0) run_tap_conv(p, useful_threads(input, taps));
  return output;
}

inline void run_tap_conv_grad_weight(const TapConvWeightParams& p, int64_t useful) {
  const Scratch memory(tap_conv_weight_bytes_cpu(p));
  const int64_t step = tap_conv_weight_images_cpu(p);
  for (int64_t first = 0; first < p.images; first += step) {
    const int64_t slices = std::min(step, p.images - first) * tap_conv_weight_slices_cpu(p);
    share_out(slices, kSlices, useful, 0, [&](void*, int64_t begin, int64_t end) {
      tap_conv_weight_lay_out_cpu(p, memory.data(), first, begin, end);
    });
    share_evenly(tap_conv_weight_parts_cpu(p), useful, [&](int64_t begin, int64_t end) {
      tap_conv_weight_sum_cpu(p, memory.data(), first, begin, end);
    });
  }
  share_out(tap_conv_weight_panels_cpu(p), 1, useful, 0, [&](void*, int64_t begin, int64_t end) {
    tap_conv_weight_write_cpu(p, memory.data(), begin, end);
  });
}

inline bool all_finite(const BFloat16* x, int64_t count) {
  constexpr uint16_t kExponent = 0x7f80;
  return std::none_of(x, x + count, [](BFloat16 b) { return (b.bits & kExponent) == kExponent; });
}

// Of a weight of this shape.
inline Tensor tap_conv_grad_weight(const Tensor& grad, const Tensor& input, const Shape& weight,
                                   const TapLists& taps) {
  Tensor grad_weight = torch::stable::new_empty(grad, weight);
  if (pixels_of(input) == 0) return torch::stable::zero_(grad_weight);
  const int64_t places = weight[2] * weight[3];
  TapConvWeightParams p{
      input.size(0),      input.size(2), input.size(3),  weight[1],     weight[0],
      taps.data(),        taps.size(),   maps_of(input), maps_of(grad), grad_weight.mutable_data_ptr(),
      weight[1] * places, places,        places,         false,         kernel_dtype(input.scalar_type())};
  const int64_t useful = useful_threads(input, taps);
  run_tap_conv_grad_weight(p, useful);
  if (p.dtype == DType::bf16 && !all_finite(static_cast<BFloat16*>(p.grad_weight), grad_weight.numel())) {
    p.widens = true;
    run_tap_conv_grad_weight(p, useful);
  }
  return grad_weight;
}

// Numbers of the output that are worth a thread.
inline constexpr int64_t kGatesPerThread = 16384;

inline GateParams gate_params(const Tensor& sums, const Tensor* condition) {
  GateParams p{};
  p.images = sums.size(0);
  p.channels = sums.size(1) / 2;
  p.height = sums.size(2);
  p.width = sums.size(3);
  p.sums = maps_of(sums);
  if (condition != nullptr) p.condition = maps_of(*condition);
  p.dtype = kernel_dtype(sums.scalar_type());
  return p;
}

template <class Kernel>
void run_gate(const GateParams& p, const Kernel& kernel) {
  const int64_t numbers = p.images * p.channels * p.height * p.width;
  if (numbers == 0) return;
  share_evenly(gate_items_cpu(p), 1 + numbers / kGatesPerThread,
               [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
}

inline Tensor gate_of(const Tensor& sums, const Tensor* condition) {
  GateParams p = gate_params(sums, condition);
  const Tensor output = new_maps(sums, p.channels);
  p.output = maps_of(output);
  run_gate(p, gate_cpu);
  return output;
}

inline Tensor gate_grad_sums(const Tensor& grad, const Tensor& sums, const Tensor* condition) {
  GateParams p = gate_params(sums, condition);
  const Tensor grad_sums = new_output_like(sums);
  p.grad = maps_of(grad);
  p.grad_sums = maps_of(grad_sums);
  p.output = p.grad_sums;  // its layout is the walk's
  run_gate(p, gate_backward_cpu);
  return grad_sums;
}

}  // namespace gcv
