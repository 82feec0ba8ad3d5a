// Pixel sampling on CPU tensors: lines one after another, shared among threads by pixels where a line is
// known as a whole, and by images where it is drawn.
#include <algorithm>
#include <tuple>
#include <vector>

#include "common/share_out.h"
#include "pixel_sampling/sampling_call_torch.h"

namespace gcv {
namespace {

// A thread is worth waking for so many multiplications.
constexpr int64_t kProductsPerTask = int64_t(1) << 18;

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
                                         double temperature, bool keep_params) {
  SamplingCall call(levels, given, noise, state, tensors, std::move(numbers), first, count, temperature,
                    keep_params);
  SamplingProgram& p = call.program.header;
  const int64_t packed =
      call.lay_out([&p](int64_t columns) { return sampling_padded_cpu(p.dtype, columns); });
  const size_t packed_bytes = SamplingCall::aligned(size_t(packed) * call.element);
  const Scratch scratch(packed_bytes + call.bytes() + sampling_scratch_cpu(p) * size_t(Lines::threads(p)));
  char* base = static_cast<char*>(scratch.data());
  p.packed = base;
  call.place(base + packed_bytes);

  torch::stable::parallel_for(0, p.instruction_count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      if (p.instructions[i].kind == SamplingKind::convolution) sampling_pack_cpu(p, i);
  });
  const Lines run(p, base + packed_bytes + call.bytes());
  for (int64_t line = 0; line < count; ++line) run.draw(first + line, call.params_of(line));
  return call.results();
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) { m.impl("pixel_sampling_lines", TORCH_BOX(&lines)); }

}  // namespace
}  // namespace gcv
