// What the sampler executes: values, the instructions that make them, and where all of it lies in memory.
// Free of torch.
//
// Lines and the pixels of a line are counted in the order in which pixels are drawn; a pixel is drawn in one
// step, or in one for each colour. The channels of a value are sorted by the step in which they are known.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/dtype.h"
#include "common/hd.h"
#include "common/isa.h"

namespace gcv {

// When a value is known, at a place of its own line.
enum class SamplingTier : int32_t { constant, line_start, pixel, drawn, line_end };

enum class SamplingKind : int32_t { convolution, activation, add, multiply, copy };

enum class SamplingActivation : int32_t { none, relu, elu, concat_elu, gate, tanh, sigmoid };

enum class SamplingHead : int32_t { softmax, mixture, bernoulli };

// Of the program's numbers: those of channels by step have one more than there are steps.
struct SamplingValue {
  SamplingTier tier;
  const int64_t* starts;  // first channel of each step, and the number of all
  void* data;
  int64_t kept_lines;                   // line y lies at y % kept_lines
  int64_t by_line, by_pixel, by_image;  // strides; 0 where all share one
};

struct SamplingTap {
  int64_t line, pixel;    // how many further
  const int64_t* limits;  // channels of the input that each step sees, from the first
};

struct SamplingInstruction {
  SamplingKind kind;
  int64_t output, inputs[2], input_count;
  SamplingActivation activation;
  const void *weight, *bias;  // [taps, C, O], [O]; or null
  const SamplingTap* taps;
  int64_t tap_count;
  const int64_t* sources;  // of a copy: input and channel, for each output channel
  const int64_t* columns;  // of a convolution: first sum of each step, and the number of all
  // Of a convolution, in elements: where its packed weights and its sums begin; sums of a pixel and image.
  int64_t packed, sums, sums_row;
  bool keeps_sums;  // of all pixels of a line, not of one
};

struct SamplingProgram {
  int64_t colours, steps, lines, pixels, images;
  SamplingHead head;
  int64_t mixtures, image, params;
  const SamplingValue* values;
  const SamplingInstruction* instructions;
  int64_t instruction_count;
  DType dtype;          // f32 or f64
  void *packed, *sums;  // as sampling_layout counts them
  uint8_t* levels;      // [images, colours, lines, pixels]
  const bool* given;    // the same
  const float* noise;   // [images, numbers, lines, pixels]
  int64_t numbers;
  double temperature;
};

struct SamplingRange {
  int64_t begin, end;
};

// How many columns a convolution of so many needs packed, so that each step begins with a whole vector.
GCV_PER_ISA(int64_t, sampling_padded_cpu, (DType dtype, int64_t columns), (dtype, columns))

// Of convolution `instruction`: puts its weights where its packed ones begin.
GCV_PER_ISA(void, sampling_pack_cpu, (const SamplingProgram& p, int64_t instruction), (p, instruction))

// An instruction of a whole line, for some of its pixels. Others may look at what it makes only afterwards.
GCV_PER_ISA(void, sampling_line_cpu,
            (const SamplingProgram& p, int64_t instruction, int64_t line, SamplingRange pixels),
            (p, instruction, line, pixels))

// Of a convolution that is computed pixel by pixel: what it sees before the line's first pixel is drawn.
GCV_PER_ISA(void, sampling_ahead_cpu,
            (const SamplingProgram& p, int64_t instruction, int64_t line, SamplingRange pixels),
            (p, instruction, line, pixels))

// Draws the line's pixels of some images. `params`, if not null: [pixels, images, C], what the levels were
// drawn from. Each thread has a scratch of sampling_scratch_cpu bytes.
GCV_PER_ISA(void, sampling_pixels_cpu,
            (const SamplingProgram& p, int64_t line, SamplingRange images, void* params, void* scratch),
            (p, line, images, params, scratch))
GCV_PER_ISA(size_t, sampling_scratch_cpu, (const SamplingProgram& p), (p))

// Whether a tap of a convolution can be added before the line's first pixel is drawn.
GCV_HD bool sampling_is_ahead(const SamplingProgram& p, const SamplingInstruction& i,
                              const SamplingTap& tap) {
  return tap.line < 0 || p.values[i.inputs[0]].tier <= SamplingTier::line_start;
}

}  // namespace gcv
