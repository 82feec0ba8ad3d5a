// Argument checks that the CPU and CUDA bindings of the room share; the sentences are those of
// gencv_fast/ops/masked_conv/checks.py.
#pragma once

#include <algorithm>
#include <array>

#include "common/torch_tensor.h"
#include "masked_conv/masked_conv.h"
#include "masked_conv/tap_conv.h"
#include "masked_conv/tap_lists.h"

namespace gcv {

using Numbers = std::vector<int64_t>;
using OptionalTensor = std::optional<Tensor>;

inline std::string numbers_text(const Numbers& numbers) {
  return shape_text({numbers.data(), numbers.size()});
}

inline void require_maps(const char* op, const char* name, const Tensor& maps) {
  require_float(op, name, maps);
  GCV_REQUIRE(maps.dim() == 4, op, ": ", name, " must be [N, C, H, W], got ", shape_text(maps), ".");
}

inline void require_positive_pair(const char* op, const char* name, const Numbers& pair) {
  const bool fits = pair.size() == 2 && pair[0] > 0 && pair[1] > 0;
  GCV_REQUIRE(fits, op, ": ", name, " must be two positive numbers, got ", numbers_text(pair), ".");
}

// As the operators take it.
struct GeometryArguments {
  const Numbers& taps;
  int64_t channel_groups, halves;
  const Numbers &dilation, &shift;
};

inline void check_taps(const char* op, int64_t height, int64_t width, const Numbers& taps) {
  const auto expect = [&](bool holds, auto... got) {
    GCV_REQUIRE(holds, op, ": taps must be ", height, " * ", width, " numbers from 0 to 3, got ", got...,
                ".");
  };
  expect(int64_t(taps.size()) == height * width, taps.size(), " numbers");
  for (const int64_t rule : taps) expect(0 <= rule && rule <= 3, rule);
  const int64_t seen = std::count_if(taps.begin(), taps.end(), [](int64_t rule) { return rule > 0; });
  GCV_REQUIRE(seen <= kMostTaps, op, ": taps must show at most ", kMostTaps, " places, got ", seen, ".");
}

inline MaskGeometry check_geometry(const char* op, int64_t height, int64_t width,
                                   const GeometryArguments& g) {
  check_taps(op, height, width, g.taps);
  GCV_REQUIRE(g.channel_groups >= 1, op, ": channel_groups must be positive, got ", g.channel_groups, ".");
  GCV_REQUIRE(g.halves == 1 || g.halves == 2, op, ": halves must be 1 or 2, got ", g.halves, ".");
  require_positive_pair(op, "dilation", g.dilation);
  GCV_REQUIRE(g.shift.size() == 2, op, ": shift must be two numbers, got ", numbers_text(g.shift), ".");
  return {g.taps.data(),           height, width, g.channel_groups, g.halves, {g.dilation[0], g.dilation[1]},
          {g.shift[0], g.shift[1]}};
}

inline void check_channels(const char* op, int64_t out, int64_t in, const GeometryArguments& g) {
  GCV_REQUIRE(in % g.channel_groups == 0, op, ": input must have a number of channels that channel_groups (",
              g.channel_groups, ") divides, got ", in, ".");
  const int64_t blocks = g.channel_groups * g.halves;
  GCV_REQUIRE(out % blocks == 0, op,
              ": weight must have a number of output channels that channel_groups * halves (", blocks,
              ") divides, got ", out, ".");
}

inline void check_weight(const char* op, const Tensor& weight, const char* of, const Tensor& like) {
  require_like(op, "weight", weight, of, like);
  const bool fits = weight.dim() == 4 && weight.size(2) > 0 && weight.size(3) > 0;
  GCV_REQUIRE(fits, op, ": weight must be [out, in, rows, columns] with rows and columns, got ",
              shape_text(weight), ".");
}

inline void check_condition(const char* op, const OptionalTensor& condition, const Tensor& input,
                            int64_t channels) {
  if (!condition) return;
  require_like(op, "condition", *condition, "input", input);
  const Numbers all{input.size(0), channels, input.size(2), input.size(3)}, image{all[0], all[1]};
  const Sizes got = condition->sizes();
  const bool fits = got == Sizes(all.data(), 4) || got == Sizes(image.data(), 2);
  GCV_REQUIRE(fits, op, ": condition must be ", numbers_text(image), " or ", numbers_text(all), ", got ",
              shape_text(*condition), ".");
}

inline ConvEpilogue epilogue_of(const char* op, const std::string& activation) {
  constexpr std::array<const char*, 5> names{"none", "relu", "elu", "concat_elu", "gate"};
  const auto found = std::find(names.begin(), names.end(), activation);
  GCV_REQUIRE(found != names.end(), op,
              ": activation must be one of none, relu, elu, concat_elu, gate, got '", activation, "'.");
  return ConvEpilogue(found - names.begin());
}

struct ConvArguments {
  const Tensor &input, &weight;
  const OptionalTensor &bias, &condition;
  const GeometryArguments& geometry;
  const std::string& activation;
};

inline MaskGeometry check_masked_conv2d(const ConvArguments& a) {
  const char* op = "masked_conv2d";
  const GeometryArguments& g = a.geometry;
  require_maps(op, "input", a.input);
  check_weight(op, a.weight, "input", a.input);
  const int64_t out = a.weight.size(0), in = a.input.size(1);
  GCV_REQUIRE(a.weight.size(1) == in, op, ": weight must have as many input channels as input (", in,
              "), got ", a.weight.size(1), ".");
  if (a.bias) {
    require_like(op, "bias", *a.bias, "input", a.input);
    const bool fits = a.bias->dim() == 1 && a.bias->size(0) == out;
    GCV_REQUIRE(fits, op, ": bias must be one number for each output channel ([", out, "]), got ",
                shape_text(*a.bias), ".");
  }
  check_condition(op, a.condition, a.input, out);
  const MaskGeometry mask = check_geometry(op, a.weight.size(2), a.weight.size(3), g);
  check_channels(op, out, in, g);
  const ConvEpilogue epilogue = epilogue_of(op, a.activation);
  GCV_REQUIRE(epilogue != ConvEpilogue::gate || g.halves == 2, op, ": halves must be 2 before a gate, got ",
              g.halves, ".");
  GCV_REQUIRE(epilogue != ConvEpilogue::concat_elu || g.channel_groups == 1, op,
              ": activation concat_elu mixes the colours of channel_groups, which must be 1 with it, got ",
              g.channel_groups, ".");
  return mask;
}

inline MaskGeometry check_masked_conv2d_grad_input(const Tensor& grad, const Tensor& weight,
                                                   const GeometryArguments& g) {
  const char* op = "masked_conv2d_grad_input";
  require_maps(op, "grad", grad);
  check_weight(op, weight, "grad", grad);
  GCV_REQUIRE(weight.size(0) == grad.size(1), op, ": weight must have as many output channels as grad (",
              grad.size(1), "), got ", weight.size(0), ".");
  const MaskGeometry mask = check_geometry(op, weight.size(2), weight.size(3), g);
  check_channels(op, weight.size(0), weight.size(1), g);
  return mask;
}

inline MaskGeometry check_masked_conv2d_grad_weight(const Tensor& grad, const Tensor& input,
                                                    const Numbers& kernel_size, const GeometryArguments& g) {
  const char* op = "masked_conv2d_grad_weight";
  require_maps(op, "grad", grad);
  require_maps(op, "input", input);
  require_like(op, "input", input, "grad", grad);
  const bool fits =
      input.size(0) == grad.size(0) && input.size(2) == grad.size(2) && input.size(3) == grad.size(3);
  GCV_REQUIRE(fits, op, ": input must have the images and pixels of grad ([", grad.size(0), ", C, ",
              grad.size(2), ", ", grad.size(3), "]), got ", shape_text(input), ".");
  require_positive_pair(op, "kernel_size", kernel_size);
  const MaskGeometry mask = check_geometry(op, kernel_size[0], kernel_size[1], g);
  check_channels(op, grad.size(1), input.size(1), g);
  return mask;
}

inline void check_gated_activation(const char* op, const Tensor& input, const OptionalTensor& condition) {
  require_maps(op, "input", input);
  GCV_REQUIRE(input.size(1) % 2 == 0, op, ": input must have two halves of channels, got ", shape_text(input),
              ".");
  check_condition(op, condition, input, input.size(1));
}

inline void check_gated_activation_backward(const Tensor& grad, const Tensor& input,
                                            const OptionalTensor& condition) {
  const char* op = "gated_activation_backward";
  check_gated_activation(op, input, condition);
  require_like(op, "grad", grad, "input", input);
  const Numbers shape{input.size(0), input.size(1) / 2, input.size(2), input.size(3)};
  require_same_shape(op, "grad", grad, "the output", {shape.data(), shape.size()});
}

// The taps that each block of output channels sees.
inline TapLists tap_lists(const MaskGeometry& m, int64_t out_channels, int64_t in_channels) {
  TapLists lists;
  const int64_t blocks = m.colours * m.halves;
  for (int64_t block = 0; block < blocks; ++block) {
    std::vector<ConvTap> taps;
    for (int64_t tap = 0; tap < m.kernel_height * m.kernel_width; ++tap) {
      const int64_t seen = seen_channels(TapRule(m.taps[tap]), block % m.colours, m.colours, in_channels);
      if (seen > 0) taps.push_back({tap_row(m, tap), tap_column(m, tap), tap, 0, seen});
    }
    const ChannelRange channels = block_of(block, blocks, out_channels);
    if (channels.begin < channels.end) lists.add_group(channels.begin, channels.end, std::move(taps));
  }
  return lists;
}

}  // namespace gcv
