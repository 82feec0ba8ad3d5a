// The checks of the room's operator, word for word those of its Python, and the program made of its numbers.
// Only *_torch_*.cpp files include this.
#pragma once

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
    GCV_REQUIRE(tensors[i].scalar_type() == type, op, ": ", name, " must have the dtype of state, got ",
                dtype_name(tensors[i].scalar_type()), ".");
    require_device(op, name, tensors[i], "levels", levels);
  }
  std::ostringstream shown;
  shown << temperature;
  GCV_REQUIRE(temperature > 0, op, ": temperature must be positive, got ", shown.str(), ".");
  GCV_REQUIRE(first >= 0 && count >= 0 && first + count <= levels.size(2), op, ": lines [", first, ", ",
              first + count, ") must lie in [0, ", levels.size(2), ").");
}

// Owns what the kernels' plain program points to.
class LoadedProgram {
 public:
  SamplingProgram header{};
  std::vector<SamplingValue> values;
  std::vector<SamplingInstruction> instructions;

  LoadedProgram(const Tensor& levels, const Tensor& noise, const Tensor& state,
                const std::vector<Tensor>& tensors, std::vector<int64_t> numbers)
      : numbers_(std::move(numbers)) {
    tensors_.reserve(tensors.size());
    for (const Tensor& t : tensors) tensors_.push_back(torch::stable::contiguous(t));
    header.images = levels.size(0);
    header.numbers = noise.dim() == 4 ? noise.size(1) : 0;
    header.dtype = kernel_dtype(state.scalar_type());
    read_header(levels, noise);
    read_instructions();
    require(at_ == numbers_.size(), "it goes on behind its end");
    header.values = values.data();
    header.instructions = instructions.data();
    header.instruction_count = int64_t(instructions.size());
    require(state.dim() == 1 && state.numel() == kept_numel(), "state has another size");
  }

  LoadedProgram(const LoadedProgram&) = delete;
  LoadedProgram& operator=(const LoadedProgram&) = delete;

  // Says where values lie: kept lines in the state, constants in their tensors, others in `rest`, of which so
  // many elements are needed.
  int64_t place(void* state, void* rest) {
    int64_t kept = 0, used = 0;
    for (SamplingValue& v : values) {
      if (v.tier == SamplingTier::constant) continue;
      const int64_t lines = v.kept_lines > 0 && !is_loose(v) ? v.kept_lines : 1;
      const int64_t size = lines * (v.by_pixel > 0 ? header.pixels : 1) * header.images * channels(v);
      int64_t& at = is_loose(v) ? used : kept;
      v.data = offset(is_loose(v) ? rest : state, at);
      at += size;
    }
    for (SamplingValue& v : values) v.kept_lines = std::max<int64_t>(1, v.kept_lines);
    return used;
  }

 private:
  static void require(bool condition, const char* why) {
    GCV_REQUIRE(condition, "pixel_sampling_lines: program must be one that fits the tensors, but ", why, ".");
  }

  int64_t next() { return *next(1); }

  const int64_t* next(int64_t count) {
    require(count >= 0 && size_t(count) <= numbers_.size() - at_, "it ends early");
    const int64_t* found = numbers_.data() + at_;
    at_ += size_t(count);
    return found;
  }

  int64_t next_below(int64_t limit, const char* why) {
    const int64_t number = next();
    require(number >= 0 && number < limit, why);
    return number;
  }

  int64_t channels(const SamplingValue& v) const { return v.starts[header.steps]; }
  // Not kept from call to call.
  bool is_loose(const SamplingValue& v) const { return loose_[size_t(&v - values.data())]; }

  void* offset(void* base, int64_t elements) const {
    if (base == nullptr) return nullptr;
    return static_cast<char*>(base) + size_t(elements) * (header.dtype == DType::f64 ? 8 : 4);
  }

  int64_t kept_numel() const {
    int64_t kept = 0;
    for (const SamplingValue& v : values)
      if (v.tier != SamplingTier::constant && !is_loose(v))
        kept += v.kept_lines * header.pixels * header.images * channels(v);
    return kept;
  }

  void read_header(const Tensor& levels, const Tensor& noise) {
    header.colours = next();
    header.steps = next();
    header.lines = next();
    header.pixels = next();
    header.head = SamplingHead(next_below(3, "its head is none"));
    header.mixtures = next();
    header.image = next();
    header.params = next();
    const int64_t value_count = next(), instruction_count = next();
    require(
        levels.size(1) == header.colours && levels.size(2) == header.lines && levels.size(3) == header.pixels,
        "levels have another shape");
    require(header.colours > 0 && (header.steps == 1 || header.steps == header.colours),
            "its steps are wrong");
    const bool is_mixture = header.head == SamplingHead::mixture;
    require(noise.dim() == 4 && noise.size(0) == header.images &&
                noise.size(1) == header.colours + is_mixture && noise.size(2) == header.lines &&
                noise.size(3) == header.pixels,
            "noise has another shape");
    require(value_count > 0 && instruction_count >= 0 && size_t(value_count) < numbers_.size() &&
                size_t(instruction_count) < numbers_.size(),
            "its counts are wrong");
    for (int64_t i = 0; i < value_count; ++i) read_value();
    instructions.resize(size_t(instruction_count));
    taps_.resize(size_t(instruction_count));
    columns_.resize(size_t(instruction_count));
    require(
        header.image >= 0 && header.image < value_count && header.params >= 0 && header.params < value_count,
        "its image or params are no value");
    check_head();
  }

  void check_head() const {
    const SamplingValue &image = values[size_t(header.image)], &params = values[size_t(header.params)];
    const int64_t by_head[] = {256 * header.colours, header.mixtures * (header.colours == 3 ? 10 : 3),
                               header.colours};
    require(image.tier == SamplingTier::drawn && channels(image) == header.colours, "its image is none");
    require(channels(params) == by_head[int(header.head)], "its params are not the head's");
    require(params.tier == SamplingTier::line_start || params.tier == SamplingTier::pixel,
            "its params come late");
    if (header.head == SamplingHead::mixture)
      require(header.steps == 1 && (header.colours == 1 || header.colours == 3) && header.mixtures > 0,
              "its mixture is none");
    for (int64_t s = 0; header.steps > 1 && s <= header.steps; ++s)
      require(params.starts[s] * header.colours == s * channels(params) && image.starts[s] == s,
              "its params do not lie by colours");
  }

  void read_value() {
    SamplingValue v{};
    v.tier = SamplingTier(next_below(5, "a tier is none"));
    v.kept_lines = next();
    const int64_t tensor = next();
    v.starts = next(header.steps + 1);
    require(v.starts[0] == 0 && v.kept_lines >= 0 && v.kept_lines <= header.lines + 1, "a value is none");
    for (int64_t s = 0; s < header.steps; ++s) require(v.starts[s] <= v.starts[s + 1], "a value is none");
    const int64_t pixel = header.images * channels(v);
    const bool one_pixel =
        v.kept_lines == 0 && (v.tier == SamplingTier::pixel || v.tier == SamplingTier::drawn);
    loose_.push_back(v.kept_lines == 0 || v.tier == SamplingTier::constant);
    v.by_image = channels(v);
    v.by_pixel = one_pixel ? 0 : pixel;
    v.by_line = header.pixels * v.by_pixel;
    if (v.tier == SamplingTier::constant) read_constant(v, tensor);
    values.push_back(v);
  }

  void read_constant(SamplingValue& v, int64_t number) const {
    require(number >= 0 && size_t(number) < tensors_.size(), "a constant has no tensor");
    const Tensor& t = tensors_[size_t(number)];
    const bool per_pixel = t.dim() == 4 && t.size(0) == header.lines && t.size(1) == header.pixels;
    require(per_pixel || t.dim() == 2, "a constant has another shape");
    require(t.size(t.dim() - 2) == header.images && t.size(t.dim() - 1) == channels(v),
            "a constant has another shape");
    v.data = const_cast<void*>(t.const_data_ptr());
    v.kept_lines = per_pixel ? header.lines : 1;
    if (!per_pixel) v.by_line = v.by_pixel = 0;
  }

  void read_instructions() {
    const auto value_count = int64_t(values.size());
    for (size_t n = 0; n < instructions.size(); ++n) {
      SamplingInstruction& i = instructions[n];
      i = {};
      i.kind = SamplingKind(next_below(5, "an instruction is none"));
      i.output = next_below(value_count, "an output is no value");
      i.activation = SamplingActivation(next_below(7, "an activation is none"));
      const int64_t weight = next(), bias = next();
      i.input_count = next_below(int64_t(numbers_.size()), "inputs are wrong");
      const int64_t* inputs = next(i.input_count);
      const int64_t tap_count = next_below(int64_t(numbers_.size()), "taps are wrong");
      const int64_t source_count = next_below(int64_t(numbers_.size()), "sources are wrong");
      for (int64_t k = 0; k < i.input_count; ++k)
        require(inputs[k] >= 0 && inputs[k] < value_count, "an input is no value");
      read_taps(n, tap_count);
      i.sources = next(2 * source_count);
      check_inputs(i, inputs, source_count);
      if (i.kind == SamplingKind::convolution) check_convolution(n, weight, bias);
    }
  }

  void read_taps(size_t n, int64_t count) {
    for (int64_t t = 0; t < count; ++t) {
      SamplingTap tap{};
      tap.line = next();
      tap.pixel = next();
      tap.limits = next(header.steps);
      taps_[n].push_back(tap);
    }
    instructions[n].taps = taps_[n].data();
    instructions[n].tap_count = count;
  }

  int64_t channels_in_step(const SamplingValue& v, int64_t step) const {
    return v.starts[step + 1] - v.starts[step];
  }

  void check_inputs(SamplingInstruction& i, const int64_t* inputs, int64_t source_count) const {
    const SamplingValue& output = values[size_t(i.output)];
    require(output.tier != SamplingTier::constant, "an instruction makes a constant");
    const bool is_pair = i.kind == SamplingKind::add || i.kind == SamplingKind::multiply;
    const int64_t least = is_pair ? 2 : 1;
    const int64_t most = i.kind == SamplingKind::convolution || i.kind == SamplingKind::copy ? 2 : least;
    require(i.input_count >= least && i.input_count <= most, "an instruction has too few or too many inputs");
    for (int64_t k = 0; k < i.input_count; ++k) {
      i.inputs[k] = inputs[k];
      const SamplingValue& input = values[size_t(inputs[k])];
      require(input.tier <= output.tier || i.kind == SamplingKind::convolution, "an input is not yet known");
      if (is_pair) require(channels(input) == channels(output), "a sum's or product's inputs differ");
    }
    require(source_count == (i.kind == SamplingKind::copy ? channels(output) : 0), "sources are wrong");
    for (int64_t c = 0; c < source_count; ++c) {
      const int64_t which = i.sources[2 * c], channel = i.sources[2 * c + 1];
      require(which >= 0 && which < i.input_count, "a source is no input");
      require(channel >= 0 && channel < channels(values[size_t(inputs[which])]), "a source is no channel");
    }
    if (i.kind != SamplingKind::activation) return;
    for (int64_t s = 0; s < header.steps; ++s)
      require(activated(i, channels_in_step(values[size_t(inputs[0])], s)) == channels_in_step(output, s),
              "an activation has other channels than its input");
  }

  static int64_t activated(const SamplingInstruction& i, int64_t channels) {
    if (i.activation == SamplingActivation::gate) return channels % 2 == 0 ? channels / 2 : -1;
    return i.activation == SamplingActivation::concat_elu ? 2 * channels : channels;
  }

  void check_convolution(size_t n, int64_t weight, int64_t bias) {
    SamplingInstruction& i = instructions[n];
    const SamplingValue &input = values[size_t(i.inputs[0])], &output = values[size_t(i.output)];
    require(input.tier != SamplingTier::constant, "a convolution is of a constant");
    const int64_t in = channels(input);
    require(weight >= 0 && size_t(weight) < tensors_.size(), "a convolution has no weight");
    const Tensor& w = tensors_[size_t(weight)];
    require(w.dim() == 3 && w.size(0) == i.tap_count && w.size(1) == in && i.tap_count <= 1024,
            "a weight has another shape");
    i.weight = w.const_data_ptr();
    columns_[n].push_back(0);
    for (int64_t s = 0; s < header.steps; ++s) {
      const int64_t made = channels_in_step(output, s);
      const bool is_gate = i.activation == SamplingActivation::gate;
      columns_[n].push_back(columns_[n].back() + (is_gate ? 2 * made : activated_from(i, made)));
    }
    i.columns = columns_[n].data();
    require(w.size(2) == columns_[n].back(), "a weight has another shape");
    if (bias >= 0) {
      require(size_t(bias) < tensors_.size(), "a convolution's bias is no tensor");
      const Tensor& b = tensors_[size_t(bias)];
      require(b.dim() == 1 && b.size(0) == w.size(2), "a bias has another shape");
      i.bias = b.const_data_ptr();
    }
    if (i.input_count > 1)
      require(channels(values[size_t(i.inputs[1])]) == w.size(2), "a condition has other channels");
    for (int64_t t = 0; t < i.tap_count; ++t) check_tap(i.taps[t], input, output);
  }

  static int64_t activated_from(const SamplingInstruction& i, int64_t made) {
    require(i.activation != SamplingActivation::concat_elu || made % 2 == 0,
            "a convolution has odd channels");
    return i.activation == SamplingActivation::concat_elu ? made / 2 : made;
  }

  // What is looked at lies in memory, and, but for the centre's colours, has been computed.
  void check_tap(const SamplingTap& tap, const SamplingValue& input, const SamplingValue& output) const {
    require(tap.line <= 0, "a tap looks ahead");
    const bool away = tap.line != 0 || tap.pixel != 0;
    const bool one_pixel = input.by_pixel == 0;
    require(!away || (!one_pixel && -tap.line < std::max<int64_t>(1, input.kept_lines)),
            "a tap looks at what is not kept");
    require(!one_pixel || output.tier == SamplingTier::pixel || output.tier == SamplingTier::drawn,
            "a line looks at what is not kept");
    for (int64_t s = 0; s < header.steps; ++s)
      require(tap.limits[s] >= 0 && tap.limits[s] <= channels(input),
              "a tap sees other channels than there are");
  }

  std::vector<int64_t> numbers_;
  size_t at_ = 0;
  std::vector<Tensor> tensors_;
  std::vector<char> loose_;
  std::vector<std::vector<SamplingTap>> taps_;
  std::vector<std::vector<int64_t>> columns_;
};

}  // namespace gcv
