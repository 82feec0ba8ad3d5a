// One call of the room's operator: results, memory, and where in it sums and values lie. Only *_torch_*.cpp
// files include this.
#pragma once

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "pixel_sampling/program_torch.h"

namespace gcv {

class NoGradient {
 public:
  NoGradient() : before_(aoti_torch_grad_mode_is_enabled()) { aoti_torch_grad_mode_set_enabled(false); }
  ~NoGradient() { aoti_torch_grad_mode_set_enabled(before_); }
  NoGradient(const NoGradient&) = delete;
  NoGradient& operator=(const NoGradient&) = delete;

 private:
  bool before_;
};

// One call of the operator: its results, and where the program's values and sums lie.
class SamplingCall {
  // Without it, copies of what requires a gradient would require one too.
  const NoGradient no_gradient_;

 public:
  LoadedProgram program;
  Tensor levels, state, params;
  const size_t element;

  SamplingCall(const Tensor& given_levels, const Tensor& given, const Tensor& noise,
               const Tensor& given_state, const std::vector<Tensor>& tensors, std::vector<int64_t> numbers,
               int64_t first, int64_t count, double temperature, bool keep_params)
      : program(checked(given_levels, given, noise, given_state, tensors, first, count, temperature), noise,
                given_state, tensors, std::move(numbers)),
        levels(copied(given_levels)),
        state(copied(given_state)),
        element(size_t(given_state.element_size())),
        given_levels_(given_levels),
        given_(torch::stable::contiguous(given)),
        noise_(torch::stable::contiguous(noise)) {
    SamplingProgram& p = program.header;
    const int64_t channels = program.values[size_t(p.params)].starts[p.steps];
    params = torch::stable::new_empty(state, {keep_params ? count : 0, p.pixels, p.images, channels});
    p.levels = static_cast<uint8_t*>(levels.mutable_data_ptr());
    p.given = static_cast<const bool*>(given_.const_data_ptr());
    p.noise = static_cast<const float*>(noise_.const_data_ptr());
    p.temperature = temperature;
    values_ = program.place(state.mutable_data_ptr(), nullptr);
  }

  static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

  // Says where sums and packed weights begin, counted in elements; returns how many are packed. `padded`
  // tells how many elements a step's sums take.
  template <class Padded>
  int64_t lay_out(Padded padded) {
    int64_t packed = 0, line_sums = 0;
    for (SamplingInstruction& i : program.instructions) {
      if (i.kind != SamplingKind::convolution) continue;
      i.keeps_sums = is_of_line(i) || sees_ahead(i);
      i.packed = packed;
      for (int64_t step = 0; step < program.header.steps; ++step) {
        int64_t rows = 0;
        for (int64_t t = 0; t < i.tap_count; ++t) rows += i.taps[t].limits[step];
        const int64_t width = padded(i.columns[step + 1] - i.columns[step]);
        packed += rows * width;
        i.sums_row += width;
      }
      const int64_t size = (i.keeps_sums ? program.header.pixels : 1) * program.header.images * i.sums_row;
      if (is_of_line(i)) {  // one is done before the next begins
        line_sums = std::max(line_sums, size);
      } else {
        i.sums = sums_;
        sums_ += size;
      }
    }
    for (SamplingInstruction& i : program.instructions)
      if (is_of_line(i)) i.sums = sums_;
    sums_ += line_sums;
    return packed;
  }

  // Of the memory that place() wants.
  size_t bytes() const { return aligned(size_t(sums_) * element) + aligned(size_t(values_) * element); }

  void place(void* memory) {
    program.header.sums = memory;
    program.place(state.mutable_data_ptr(), static_cast<char*>(memory) + aligned(size_t(sums_) * element));
  }

  // Of a line, counted from the first that is drawn; null where they are not kept.
  void* params_of(int64_t line) {
    if (params.numel() == 0) return nullptr;
    return static_cast<char*>(params.mutable_data_ptr()) + size_t(line * params.stride(0)) * element;
  }

  std::tuple<Tensor, Tensor, Tensor> results() const {
    return {given_levels_.is_contiguous() ? levels : laid_out(levels, given_levels_), state, params};
  }

 private:
  // The levels, after the checks that come before those of the program.
  static const Tensor& checked(const Tensor& levels, const Tensor& given, const Tensor& noise,
                               const Tensor& state, const std::vector<Tensor>& tensors, int64_t first,
                               int64_t count, double temperature) {
    check_pixel_sampling_lines(levels, given, noise, state, tensors, first, count, temperature);
    return levels;
  }

  static Tensor copied(const Tensor& t) { return torch::stable::clone(torch::stable::contiguous(t)); }

  // In the memory format of `like`.
  static Tensor laid_out(const Tensor& t, const Tensor& like) {
    Tensor result = torch::stable::empty_like(like);
    return torch::stable::copy_(result, t);
  }

  bool is_of_line(const SamplingInstruction& i) const {
    const SamplingTier tier = program.values[size_t(i.output)].tier;
    return tier == SamplingTier::line_start || tier == SamplingTier::line_end;
  }

  bool sees_ahead(const SamplingInstruction& i) const {
    for (int64_t t = 0; t < i.tap_count; ++t)
      if (sampling_is_ahead(program.header, i, i.taps[t])) return true;
    return false;
  }

  Tensor given_levels_, given_, noise_;
  int64_t values_ = 0, sums_ = 0;
};

}  // namespace gcv
