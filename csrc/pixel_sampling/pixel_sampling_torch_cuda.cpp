// The room's operator for CUDA tensors; in the emulated build, for CPU tensors.
#include <cstring>

#include "common/torch_cuda.h"
#include "pixel_sampling/sampling_call_torch.h"
#include "pixel_sampling/sampling_cuda.h"

namespace gcv {
namespace {

// A program whose tables lie in one block of bytes on the device, with the pointers that hold there.
class DeviceProgram {
 public:
  DeviceProgram(const LoadedProgram& program, const Tensor& like) : header_(program.header) {
    fill(program.values, program.instructions);  // only counts
    bytes_.resize(at_);
    tables_ = new_workspace(like, bytes_.size());
    fill(program.values, program.instructions);
    const torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
    const Tensor host =
        torch::stable::from_blob(bytes_.data(), {int64_t(bytes_.size())}, {1}, cpu, ScalarType::Byte);
    torch::stable::copy_(tables_, host);
  }

  const SamplingProgram& header() const { return header_; }

 private:
  void fill(std::vector<SamplingValue> values, std::vector<SamplingInstruction> instructions) {
    at_ = 0;
    const auto steps = size_t(header_.steps);
    for (SamplingValue& v : values) v.starts = put(v.starts, steps + 1);
    for (SamplingInstruction& i : instructions) {
      std::vector<SamplingTap> taps(i.taps, i.taps + i.tap_count);
      for (SamplingTap& tap : taps) tap.limits = put(tap.limits, steps);
      i.taps = put(taps.data(), taps.size());
      if (i.kind == SamplingKind::convolution) i.columns = put(i.columns, steps + 1);
      if (i.kind == SamplingKind::copy)
        i.sources = put(i.sources, 2 * size_t(values[size_t(i.output)].by_image));
    }
    header_.values = put(values.data(), values.size());
    header_.instructions = put(instructions.data(), instructions.size());
  }

  template <class Entry>
  const Entry* put(const Entry* entries, size_t count) {
    static_assert(sizeof(Entry) % alignof(int64_t) == 0, "the next table would not be aligned");
    const size_t begin = at_;
    at_ += count * sizeof(Entry);
    if (bytes_.empty()) return entries;
    if (count > 0) std::memcpy(bytes_.data() + begin, entries, count * sizeof(Entry));
    return reinterpret_cast<const Entry*>(static_cast<char*>(tables_.mutable_data_ptr()) + begin);
  }

  SamplingProgram header_;
  std::vector<unsigned char> bytes_;
  size_t at_ = 0;
  Tensor tables_;
};

std::tuple<Tensor, Tensor, Tensor> lines(const Tensor& levels, const Tensor& given, const Tensor& noise,
                                         const Tensor& state, std::vector<Tensor> tensors,
                                         std::vector<int64_t> numbers, int64_t first, int64_t count,
                                         double temperature, bool keep_params) {
  SamplingCall call(levels, given, noise, state, tensors, std::move(numbers), first, count, temperature,
                    keep_params);
  call.lay_out([](int64_t columns) { return columns; });
  const Tensor memory = new_workspace(state, call.bytes());
  call.place(memory.mutable_data_ptr());
  const CurrentStream stream(state);
  const DeviceProgram program(call.program, state);
  check_cuda(pixel_sampling_cuda(program.header(), first, count, call.params_of(0), stream.get()));
  return call.results();
}

#ifdef GCV_EMULATED
STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_emulated, m) {
  m.def(
      "pixel_sampling_lines(Tensor levels, Tensor given, Tensor noise, Tensor state, Tensor[] tensors, "
      "int[] program, int first, int count, float temperature=1.0, "
      "bool keep_params=False) -> (Tensor, Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(gencv_fast_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CUDA, m) {
#endif
  m.impl("pixel_sampling_lines", TORCH_BOX(&lines));
}

}  // namespace
}  // namespace gcv
