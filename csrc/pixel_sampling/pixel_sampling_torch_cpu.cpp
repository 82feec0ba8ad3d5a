// Pixel sampling on CPU tensors: lines one after another, shared among threads by pixels where a line is
// known as a whole, and by images where it is drawn.
#include <algorithm>
#include <numeric>
#include <tuple>
#include <vector>

#include "common/share_out.h"
#include "pixel_sampling/program_torch.h"

namespace gcv {
namespace {

// A thread is worth waking for so many multiplications.
constexpr int64_t kProductsPerTask = int64_t(1) << 18;

// Where packed weights and sums lie, counted in elements.
struct Layout {
  int64_t packed = 0, sums = 0;
};

Layout lay_out(LoadedProgram& program) {
  Layout layout;
  int64_t line_sums = 0;
  for (SamplingInstruction& i : program.instructions) {
    if (i.kind != SamplingKind::convolution) continue;
    const SamplingTier tier = program.values[size_t(i.output)].tier;
    const bool whole_line = tier == SamplingTier::line_start || tier == SamplingTier::line_end;
    bool is_ahead = false;
    for (int64_t t = 0; t < i.tap_count; ++t)
      is_ahead = is_ahead || sampling_is_ahead(program.header, i, i.taps[t]);
    i.keeps_sums = whole_line || is_ahead;
    i.packed = layout.packed;
    for (int64_t step = 0; step < program.header.steps; ++step) {
      int64_t rows = 0;
      for (int64_t t = 0; t < i.tap_count; ++t) rows += i.taps[t].limits[step];
      const int64_t padded = sampling_padded_cpu(program.header.dtype, i.columns[step + 1] - i.columns[step]);
      layout.packed += rows * padded;
      i.sums_row += padded;
    }
    const int64_t size = (i.keeps_sums ? program.header.pixels : 1) * program.header.images * i.sums_row;
    if (whole_line) {  // one is done before the next begins
      line_sums = std::max(line_sums, size);
    } else {
      i.sums = layout.sums;
      layout.sums += size;
    }
  }
  for (SamplingInstruction& i : program.instructions) {
    const SamplingTier tier = program.values[size_t(i.output)].tier;
    if (tier == SamplingTier::line_start || tier == SamplingTier::line_end) i.sums = layout.sums;
  }
  layout.sums += line_sums;
  return layout;
}

int64_t grain_for(int64_t products_per_item) {
  return std::max<int64_t>(1, kProductsPerTask / std::max<int64_t>(1, products_per_item));
}

class Lines {
 public:
  Lines(const SamplingProgram& p, void* scratch) : p_(p), scratch_(static_cast<char*>(scratch)) {}

  void draw(int64_t line, void* params) const {
    whole_line(SamplingTier::line_start, line);
    ahead(line);
    pixels(line, params);
    whole_line(SamplingTier::line_end, line);
  }

  // By threads: each needs scratch of its own.
  static int64_t threads(const SamplingProgram& p) {
    return std::max<int64_t>(1, std::min<int64_t>(torch::stable::get_num_threads(), p.images));
  }

 private:
  SamplingTier tier_of(int64_t i) const { return p_.values[p_.instructions[i].output].tier; }

  int64_t products_of(int64_t i) const {
    const SamplingInstruction& at = p_.instructions[i];
    int64_t products = p_.values[at.output].starts[p_.steps];
    if (at.kind == SamplingKind::convolution)
      products *= at.tap_count * p_.values[at.inputs[0]].starts[p_.steps];
    return products * p_.images;
  }

  void whole_line(SamplingTier tier, int64_t line) const {
    for (int64_t i = 0; i < p_.instruction_count; ++i) {
      if (tier_of(i) != tier) continue;
      torch::stable::parallel_for(0, p_.pixels, grain_for(products_of(i)), [&](int64_t begin, int64_t end) {
        sampling_line_cpu(p_, i, line, {begin, end});
      });
    }
  }

  void ahead(int64_t line) const {
    torch::stable::parallel_for(0, p_.pixels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < p_.instruction_count; ++i) {
        const bool in_steps = tier_of(i) == SamplingTier::pixel || tier_of(i) == SamplingTier::drawn;
        if (in_steps && p_.instructions[i].kind == SamplingKind::convolution && p_.instructions[i].keeps_sums)
          sampling_ahead_cpu(p_, i, line, {begin, end});
      }
    });
  }

  void pixels(int64_t line, void* params) const {
    const int64_t count = threads(p_), each = (p_.images + count - 1) / count;
    const size_t scratch = sampling_scratch_cpu(p_);
    torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const SamplingRange images{t * each, std::min(p_.images, (t + 1) * each)};
        if (images.begin < images.end)
          sampling_pixels_cpu(p_, line, images, params, scratch_ + size_t(t) * scratch);
      }
    });
  }

  const SamplingProgram& p_;
  char* scratch_;
};

std::tuple<Tensor, Tensor, Tensor> lines(const Tensor& levels, const Tensor& given, const Tensor& noise,
                                         const Tensor& state, std::vector<Tensor> tensors,
                                         std::vector<int64_t> numbers, int64_t first, int64_t count,
                                         double temperature) {
  check_pixel_sampling_lines(levels, given, noise, state, tensors, first, count, temperature);
  LoadedProgram program(levels, noise, state, tensors, std::move(numbers));
  SamplingProgram& p = program.header;
  const Layout layout = lay_out(program);

  const auto copied = [](const Tensor& t) {
    return torch::stable::clone(torch::stable::contiguous(t));
  };
  Tensor new_levels = copied(levels), new_state = copied(state);
  const Tensor dense_given = torch::stable::contiguous(given), dense_noise = torch::stable::contiguous(noise);
  const int64_t channels = program.values[size_t(p.params)].starts[p.steps];
  const Tensor params = torch::stable::new_empty(state, {count, p.pixels, p.images, channels});

  const auto element = size_t(state.element_size());
  const int64_t value_numel = program.place(new_state.mutable_data_ptr(), nullptr);
  const size_t thread_scratch = sampling_scratch_cpu(p) * size_t(Lines::threads(p));
  const auto aligned = [](size_t bytes) { return (bytes + 63) / 64 * 64; };
  const size_t packed_bytes = aligned(size_t(layout.packed) * element);
  const size_t sums_bytes = aligned(size_t(layout.sums) * element);
  const size_t values_bytes = aligned(size_t(value_numel) * element);
  const Scratch scratch(packed_bytes + sums_bytes + values_bytes + thread_scratch);
  char* base = static_cast<char*>(scratch.data());
  p.packed = base;
  p.sums = base + packed_bytes;
  program.place(new_state.mutable_data_ptr(), base + packed_bytes + sums_bytes);
  p.levels = static_cast<uint8_t*>(new_levels.mutable_data_ptr());
  p.given = static_cast<const bool*>(dense_given.const_data_ptr());
  p.noise = static_cast<const float*>(dense_noise.const_data_ptr());
  p.temperature = temperature;

  torch::stable::parallel_for(0, p.instruction_count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      if (p.instructions[i].kind == SamplingKind::convolution) sampling_pack_cpu(p, i);
  });
  const Lines run(p, base + packed_bytes + sums_bytes + values_bytes);
  auto* to = static_cast<char*>(params.mutable_data_ptr());
  for (int64_t line = 0; line < count; ++line)
    run.draw(first + line, to + size_t(line * p.pixels * p.images * channels) * element);
  return {new_levels, new_state, params};
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) { m.impl("pixel_sampling_lines", TORCH_BOX(&lines)); }

}  // namespace
}  // namespace gcv
