// The checks of the room's operator, word for word those of its Python, and the program made of its numbers.
// Only *_torch_*.cpp files include this.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <map>
#include <utility>
#include <vector>

#include "common/torch_tensor.h"
#include "pixel_sampling/program.h"

namespace gcv {

inline void check_pixel_sampling_lines(const Tensor& levels, const Tensor& given, const Tensor& noise,
                                       const Tensor& state, const std::vector<Tensor>& tensors, int64_t first,
                                       int64_t count, double temperature) {
  const char* op = "pixel_sampling_lines";
  GCV_REQUIRE(levels.dim() == 4, op, ": levels must be [N, C, lines, pixels], got ", shape_text(levels), ".");
  GCV_REQUIRE(levels.scalar_type() == ScalarType::Byte, op, ": levels must be uint8, got ",
              dtype_name(levels.scalar_type()), ".");
  GCV_REQUIRE(given.scalar_type() == ScalarType::Bool, op, ": given must be bool, got ",
              dtype_name(given.scalar_type()), ".");
  GCV_REQUIRE(noise.scalar_type() == ScalarType::Float, op, ": noise must be float32, got ",
              dtype_name(noise.scalar_type()), ".");
  const ScalarType type = state.scalar_type();
  GCV_REQUIRE(type == ScalarType::Float || type == ScalarType::Double, op,
              ": state must be float32 or float64, got ", dtype_name(type), ".");
  require_same_shape(op, "given", given, "levels", levels.sizes());
  require_device(op, "given", given, "levels", levels);
  require_device(op, "noise", noise, "levels", levels);
  require_device(op, "state", state, "levels", levels);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::string name = "tensors[" + std::to_string(i) + "]";
    require_float(op, name, tensors[i]);
    require_device(op, name, tensors[i], "levels", levels);
  }
  std::ostringstream shown;
  shown << temperature;
  GCV_REQUIRE(temperature > 0, op, ": temperature must be positive, got ", shown.str(), ".");
  GCV_REQUIRE(first >= 0 && count >= 0 && first + count <= levels.size(2), op, ": lines [", first, ", ",
              first + count, ") must lie in [0, ", levels.size(2), ").");
}

// Owns what the kernels' plain program points to. First the numbers are read, then compared with the tensors.
class LoadedProgram {
 public:
  SamplingProgram header{};
  std::vector<SamplingValue> values;
  std::vector<SamplingInstruction> instructions;

  LoadedProgram(const Tensor& levels, const Tensor& noise, const Tensor& state,
                const std::vector<Tensor>& tensors, std::vector<int64_t> numbers)
      : numbers_(std::move(numbers)) {
    for (const Tensor& t : tensors)
      tensors_.push_back(torch::stable::contiguous(torch::stable::to(t, state.scalar_type())));
    header.images = levels.size(0);
    header.dtype = kernel_dtype(state.scalar_type());
    read();
    check_shapes(levels, noise);
    header.numbers = noise.size(1);
    for (size_t v = 0; v < values.size(); ++v) finish_value(values[v], constants_[v]);
    check_head();
    for (size_t i = 0; i < instructions.size(); ++i) finish_instruction(i);
    require(state.dim() == 1 && state.numel() == kept_numel(), "state has another size");
    for (SamplingValue& v : values) v.kept_lines = std::max<int64_t>(1, v.kept_lines);
    header.values = values.data();
    header.instructions = instructions.data();
    header.instruction_count = int64_t(instructions.size());
  }

  LoadedProgram(const LoadedProgram&) = delete;
  LoadedProgram& operator=(const LoadedProgram&) = delete;

  // Says where values lie: kept lines in the state, constants in their tensors, others in `rest`; returns how
  // many elements of that are needed.
  int64_t place(void* state, void* rest) {
    int64_t kept = 0, used = 0;
    for (SamplingValue& v : values) {
      if (v.tier == SamplingTier::constant) continue;
      const int64_t lines = is_kept(v) ? v.kept_lines : 1;
      const int64_t size = lines * (v.by_pixel > 0 ? header.pixels : 1) * header.images * channels(v);
      int64_t& at = is_kept(v) ? kept : used;
      v.data = offset(is_kept(v) ? state : rest, at);
      at += size;
    }
    return used;
  }

 private:
  static constexpr int64_t kMostTaps = 1024, kMostChannels = int64_t(1) << 20;

  struct Raw {
    int64_t weight, bias, source_count;
    const int64_t* inputs;
  };

  static void require(bool condition, const char* why) {
    GCV_REQUIRE(condition, "pixel_sampling_lines: program must be one that fits the tensors, but ", why, ".");
  }

  static bool is_below(int64_t number, int64_t limit) { return number >= 0 && number < limit; }

  int64_t next() { return *next(1); }

  const int64_t* next(int64_t count) {
    require(count >= 0 && size_t(count) <= numbers_.size() - at_, "it ends early");
    const int64_t* found = numbers_.data() + at_;
    at_ += size_t(count);
    return found;
  }

  int64_t next_below(int64_t limit, const char* why) {
    const int64_t number = next();
    require(is_below(number, limit), why);
    return number;
  }

  bool is_count(int64_t number) const { return is_below(number, int64_t(numbers_.size()) + 1); }

  void read() {
    const int64_t* n = next(10);
    header.colours = n[0];
    header.steps = n[1];
    header.lines = n[2];
    header.pixels = n[3];
    header.mixtures = n[5];
    header.image = n[6];
    header.params = n[7];
    require(n[0] > 0 && (n[1] == 1 || n[1] == n[0]), "its steps are wrong");
    require(is_below(n[4], 3), "its head is none");
    header.head = SamplingHead(n[4]);
    require(is_count(n[8]) && is_count(n[9]), "its counts are wrong");
    for (int64_t v = 0; v < n[8]; ++v) read_value();
    for (int64_t i = 0; i < n[9]; ++i) read_instruction();
    require(at_ == numbers_.size(), "it goes on behind its end");
  }

  void read_value() {
    const int64_t* n = next(3);
    require(is_below(n[0], 5), "a tier is none");
    SamplingValue v{};
    v.tier = SamplingTier(n[0]);
    v.kept_lines = n[1];
    constants_.push_back(n[2]);
    v.starts = next(header.steps + 1);
    values.push_back(v);
  }

  void read_instruction() {
    const int64_t* n = next(6);
    require(is_below(n[0], 5), "an instruction is none");
    require(is_below(n[2], 7), "an activation is none");
    SamplingInstruction i{};
    i.kind = SamplingKind(n[0]);
    i.output = n[1];
    i.activation = SamplingActivation(n[2]);
    i.input_count = n[5];
    Raw raw{n[3], n[4], 0, next(n[5])};
    i.tap_count = next();
    raw.source_count = next();
    require(is_count(i.tap_count) && is_count(raw.source_count), "it ends early");
    taps_.emplace_back();
    for (int64_t t = 0; t < i.tap_count; ++t) {
      const int64_t* at = next(2 + header.steps);
      taps_.back().push_back({at[0], at[1], at + 2});
    }
    i.sources = next(2 * raw.source_count);
    instructions.push_back(i);
    raw_.push_back(raw);
  }

  int64_t channels(const SamplingValue& v) const { return v.starts[header.steps]; }
  int64_t known(const SamplingValue& v, int64_t step) const { return v.starts[step + 1] - v.starts[step]; }
  bool is_value(int64_t number) const { return is_below(number, int64_t(values.size())); }
  bool is_tensor(int64_t number) const { return is_below(number, int64_t(tensors_.size())); }

  static bool is_in_steps(const SamplingValue& v) {
    return v.tier == SamplingTier::pixel || v.tier == SamplingTier::drawn;
  }

  // From call to call. Values are placed in their order.
  bool is_kept(const SamplingValue& v) const { return kept_[size_t(&v - values.data())]; }

  void* offset(void* base, int64_t elements) const {
    if (base == nullptr) return nullptr;
    return static_cast<char*>(base) + size_t(elements) * (header.dtype == DType::f64 ? 8 : 4);
  }

  int64_t kept_numel() const {
    int64_t kept = 0;
    for (const SamplingValue& v : values)
      if (is_kept(v)) kept += v.kept_lines * header.pixels * header.images * channels(v);
    return kept;
  }

  static bool has_shape(const Tensor& t, std::initializer_list<int64_t> shape) {
    if (t.dim() != int64_t(shape.size())) return false;
    int64_t d = 0;
    for (const int64_t size : shape)
      if (t.size(d++) != size) return false;
    return true;
  }

  void check_shapes(const Tensor& levels, const Tensor& noise) const {
    const SamplingProgram& h = header;
    require(has_shape(levels, {h.images, h.colours, h.lines, h.pixels}), "levels have another shape");
    const int64_t numbers = h.colours + (h.head == SamplingHead::mixture);
    require(has_shape(noise, {h.images, numbers, h.lines, h.pixels}), "noise has another shape");
  }

  void finish_value(SamplingValue& v, int64_t constant) {
    bool is_sorted = v.starts[0] == 0;
    for (int64_t s = 0; s < header.steps; ++s) is_sorted = is_sorted && v.starts[s] <= v.starts[s + 1];
    require(is_sorted, "a value is none");
    require(channels(v) <= kMostChannels && is_below(v.kept_lines, header.lines + 2), "a value is none");
    const bool one_pixel = v.kept_lines == 0 && is_in_steps(v);
    kept_.push_back(v.kept_lines > 0 && v.tier != SamplingTier::constant);
    v.by_image = channels(v);
    v.by_pixel = one_pixel ? 0 : header.images * channels(v);
    v.by_line = header.pixels * v.by_pixel;
    if (v.tier != SamplingTier::constant) return;
    require(is_tensor(constant), "a constant has no tensor");
    const Tensor& t = tensors_[size_t(constant)];
    const bool is_map = has_shape(t, {header.lines, header.pixels, header.images, channels(v)});
    require(is_map || has_shape(t, {header.images, channels(v)}), "a constant has another shape");
    v.data = const_cast<void*>(t.const_data_ptr());
    v.kept_lines = is_map ? header.lines : 1;
    if (!is_map) v.by_line = v.by_pixel = 0;
  }

  void check_head() const {
    const SamplingProgram& h = header;
    require(is_value(h.image) && is_value(h.params), "its image or params are no value");
    const SamplingValue &image = values[size_t(h.image)], &params = values[size_t(h.params)];
    if (h.head == SamplingHead::mixture)
      require(
          h.steps == 1 && (h.colours == 1 || h.colours == 3) && h.mixtures > 0 && h.mixtures <= kMostChannels,
          "its mixture is none");
    require(image.tier == SamplingTier::drawn && channels(image) == h.colours, "its image is none");
    const int64_t wanted = h.head == SamplingHead::softmax   ? 256 * h.colours
                           : h.head == SamplingHead::mixture ? h.mixtures * (h.colours == 3 ? 10 : 3)
                                                             : h.colours;
    require(channels(params) == wanted, "its params are not the head's");
    require(params.tier == SamplingTier::line_start || params.tier == SamplingTier::pixel,
            "its params come late");
    for (int64_t s = 0; h.steps > 1 && s <= h.steps; ++s)
      require(params.starts[s] * h.colours == s * channels(params) && image.starts[s] == s,
              "its params do not lie by colours");
  }

  void finish_instruction(size_t number) {
    SamplingInstruction& i = instructions[number];
    const Raw& raw = raw_[number];
    i.taps = taps_[number].data();
    require(is_value(i.output), "an output is no value");
    const SamplingValue& output = values[size_t(i.output)];
    require(output.tier != SamplingTier::constant, "an instruction makes a constant");
    const bool is_pair = i.kind == SamplingKind::add || i.kind == SamplingKind::multiply;
    require(
        i.input_count >= (is_pair ? 2 : 1) && i.input_count <= (i.kind == SamplingKind::activation ? 1 : 2),
        "an instruction has too few or too many inputs");
    for (int64_t k = 0; k < i.input_count; ++k) {
      require(is_value(raw.inputs[k]), "an input is no value");
      i.inputs[k] = raw.inputs[k];
    }
    for (int64_t k = 0; k < i.input_count && i.kind != SamplingKind::convolution; ++k)
      require(input(i, k).tier <= output.tier, "an input is not yet known");
    for (int64_t k = 0; k < i.input_count && is_pair; ++k)
      require(channels(input(i, k)) == channels(output), "a sum's or product's inputs differ");
    check_sources(i, raw.source_count, output);
    if (i.kind == SamplingKind::activation) {
      for (int64_t s = 0; s < header.steps; ++s)
        require(activated(i, known(input(i, 0), s)) == known(output, s),
                "an activation has other channels than its input");
    }
    if (i.kind == SamplingKind::convolution) finish_convolution(number, raw, output);
  }

  const SamplingValue& input(const SamplingInstruction& i, int64_t which) const {
    return values[size_t(i.inputs[which])];
  }

  void check_sources(const SamplingInstruction& i, int64_t count, const SamplingValue& output) const {
    require(count == (i.kind == SamplingKind::copy ? channels(output) : 0), "sources are wrong");
    for (const int64_t* at = i.sources; at < i.sources + 2 * count; at += 2)
      require(is_below(at[0], i.input_count) && is_below(at[1], channels(input(i, at[0]))),
              "a source is no channel");
  }

  static int64_t activated(const SamplingInstruction& i, int64_t channels) {
    if (i.activation == SamplingActivation::gate) return channels % 2 == 0 ? channels / 2 : -1;
    return i.activation == SamplingActivation::concat_elu ? 2 * channels : channels;
  }

  void finish_convolution(size_t number, const Raw& raw, const SamplingValue& output) {
    SamplingInstruction& i = instructions[number];
    const SamplingValue& seen = input(i, 0);
    require(seen.tier != SamplingTier::constant, "a convolution is of a constant");
    const bool halves = i.activation == SamplingActivation::concat_elu;
    const bool doubles = i.activation == SamplingActivation::gate;
    std::vector<int64_t>& columns = columns_[number];
    columns.push_back(0);
    for (int64_t s = 0; s < header.steps; ++s) {
      const int64_t made = known(output, s);
      require(!halves || made % 2 == 0, "a convolution has odd channels");
      columns.push_back(columns.back() + (doubles ? 2 * made : halves ? made / 2 : made));
    }
    i.columns = columns.data();
    require(is_tensor(raw.weight), "a convolution has no weight");
    const Tensor& weight = tensors_[size_t(raw.weight)];
    require(has_shape(weight, {i.tap_count, channels(seen), columns.back()}) && i.tap_count <= kMostTaps,
            "a weight has another shape");
    i.weight = weight.const_data_ptr();
    if (raw.bias >= 0) {
      require(is_tensor(raw.bias) && has_shape(tensors_[size_t(raw.bias)], {columns.back()}),
              "a bias has another shape");
      i.bias = tensors_[size_t(raw.bias)].const_data_ptr();
    }
    require(i.input_count < 2 || (channels(input(i, 1)) == columns.back() && input(i, 1).tier <= output.tier),
            "a condition has other channels or is not yet known");
    for (const SamplingTap& tap : taps_[number]) check_tap(tap, seen, output);
  }

  // What is looked at lies in memory, and, but for the centre's colours, has been computed.
  void check_tap(const SamplingTap& tap, const SamplingValue& input, const SamplingValue& output) const {
    require(tap.line <= 0, "a tap looks ahead");
    require(tap.pixel >= -header.pixels && tap.pixel <= header.pixels, "a tap looks beyond the line");
    const bool is_away = tap.line != 0 || tap.pixel != 0,
               one_pixel = input.kept_lines == 0 && is_in_steps(input);
    require(!is_away || (!one_pixel && tap.line > -std::max<int64_t>(1, input.kept_lines)),
            "a tap looks at what is not kept");
    require(!one_pixel || is_in_steps(output), "a line looks at what is not kept");
    for (int64_t s = 0; s < header.steps; ++s)
      require(tap.limits[s] >= 0 && tap.limits[s] <= channels(input),
              "a tap sees other channels than there are");
  }

  std::vector<int64_t> numbers_;
  size_t at_ = 0;
  std::vector<Tensor> tensors_;
  std::vector<int64_t> constants_;
  std::vector<char> kept_;
  std::vector<Raw> raw_;
  std::vector<std::vector<SamplingTap>> taps_;
  std::map<size_t, std::vector<int64_t>> columns_;
};

}  // namespace gcv
