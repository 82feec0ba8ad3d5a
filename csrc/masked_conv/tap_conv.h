// A convolution over a list of taps, each with a range of input channels: what a mask leaves of a
// convolution, and of its gradients. Free of torch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/dtype.h"
#include "common/isa.h"

namespace gcv {

// [images, channels, rows, columns], strides in elements; 0 where one value serves all.
struct ConvMaps {
  void* data;
  int64_t strides[4];
};

// An output pixel sees input channels [begin, end) of the pixel `dy` rows below and `dx` columns right of it,
// with the weights at place `weight` of the kernel's plane.
struct ConvTap {
  int64_t dy, dx, weight, begin, end;
};

// Output channels [first, last) and the taps that they see, by rows.
struct ConvGroup {
  int64_t first, last;
  const ConvTap* taps;
  int64_t tap_count;
};

// What happens to the sums before they are written. A gate multiplies tanh of one half of the channels by the
// sigmoid of the other; concat_elu writes elu(x) and, behind all channels, elu(-x).
enum class ConvEpilogue : int32_t { none, relu, elu, concat_elu, gate };

struct TapConvParams {
  int64_t images, height, width, in_channels, out_channels;
  const ConvGroup* groups;
  int64_t group_count;
  ConvMaps input, output;
  const void* weight;
  int64_t weight_out, weight_in;  // strides of its channels; the places of a plane are dense
  const void* bias;               // of the output channels, or null
  ConvMaps condition;             // added to the sums, of out_channels; no data: nothing
  ConvEpilogue epilogue;
  DType dtype;
};

// The weights that are seen, in panels: packed once, read by all. `packed` has tap_conv_packed_bytes_cpu
// bytes.
GCV_PER_ISA(size_t, tap_conv_packed_bytes_cpu, (const TapConvParams& p), (p))
GCV_PER_ISA(int64_t, tap_conv_panels_cpu, (const TapConvParams& p), (p))
GCV_PER_ISA(void, tap_conv_pack_cpu, (const TapConvParams& p, void* packed, int64_t begin, int64_t end),
            (p, packed, begin, end))

// Bands of rows, [begin, end) of tap_conv_bands_cpu.
GCV_PER_ISA(int64_t, tap_conv_bands_cpu, (const TapConvParams& p), (p))
GCV_PER_ISA(size_t, tap_conv_scratch_cpu, (const TapConvParams& p), (p))
GCV_PER_ISA(void, tap_conv_cpu,
            (const TapConvParams& p, const void* packed, void* scratch, int64_t begin, int64_t end),
            (p, packed, scratch, begin, end))

// The gradient of the weights. Where no tap lets a weight be seen, it
// is zero.
struct TapConvWeightParams {
  int64_t images, height, width, in_channels, out_channels;
  const ConvGroup* groups;
  int64_t group_count;
  ConvMaps input, grad;
  void* grad_weight;
  int64_t weight_out, weight_in, places;  // strides of its channels, and places of a plane, which are dense
  // Products of bf16 in pairs also multiply zeros by pixels beside those that a tap sees: where these are not
  // finite, sums are not either, but for this.
  bool widens;
  DType dtype;
};

// How many images `tap_conv_weight_bytes_cpu` has room for.
GCV_PER_ISA(int64_t, tap_conv_weight_images_cpu, (const TapConvWeightParams& p), (p))
GCV_PER_ISA(size_t, tap_conv_weight_bytes_cpu, (const TapConvWeightParams& p), (p))
// For every such set of images from `first` on: slices [begin, end) of all its images are laid out; then
// parts [begin, end) are summed. When all images are, panels [begin, end) are written.
GCV_PER_ISA(int64_t, tap_conv_weight_slices_cpu, (const TapConvWeightParams& p), (p))  // of an image
GCV_PER_ISA(void, tap_conv_weight_lay_out_cpu,
            (const TapConvWeightParams& p, void* memory, int64_t first, int64_t begin, int64_t end),
            (p, memory, first, begin, end))
GCV_PER_ISA(int64_t, tap_conv_weight_parts_cpu, (const TapConvWeightParams& p), (p))
GCV_PER_ISA(void, tap_conv_weight_sum_cpu,
            (const TapConvWeightParams& p, void* memory, int64_t first, int64_t begin, int64_t end),
            (p, memory, first, begin, end))
GCV_PER_ISA(int64_t, tap_conv_weight_panels_cpu, (const TapConvWeightParams& p), (p))
GCV_PER_ISA(void, tap_conv_weight_write_cpu,
            (const TapConvWeightParams& p, const void* memory, int64_t begin, int64_t end),
            (p, memory, begin, end))

}  // namespace gcv
