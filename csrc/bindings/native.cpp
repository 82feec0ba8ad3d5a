// What is not a torch operator: how the package was built, and which instruction set its CPU kernels use.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "common/isa.h"

namespace py = pybind11;

namespace {

const gcv::Isa kIsas[] = {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512};

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (gcv::Isa isa : kIsas) {
    if (gcv::isa_usable(isa)) names.emplace_back(gcv::isa_name(isa));
  }
  return names;
}

void set_isa(const std::string& name) {
  for (gcv::Isa isa : kIsas) {
    if (name == gcv::isa_name(isa) && gcv::set_isa(isa)) return;
  }
  std::string usable;
  for (const std::string& each : available_isas()) usable += (usable.empty() ? "" : ", ") + each;
  throw std::runtime_error("set_isa: this processor runs " + usable + "; got '" + name + "'.");
}

std::vector<std::string> cpu_features() {
  std::vector<std::string> found;
#if defined(__x86_64__)
#define GCV_FEATURE(name) \
  if (__builtin_cpu_supports(name)) found.emplace_back(name)
  GCV_FEATURE("sse4.2");
  GCV_FEATURE("avx");
  GCV_FEATURE("avx2");
  GCV_FEATURE("fma");
  GCV_FEATURE("f16c");
  GCV_FEATURE("avx512f");
  GCV_FEATURE("avx512bw");
  GCV_FEATURE("avx512dq");
  GCV_FEATURE("avx512vl");
  GCV_FEATURE("avx512bf16");
#undef GCV_FEATURE
#endif
  return found;
}

py::dict build_info() {
  py::dict info;
  info["version"] = GCV_VERSION;
  info["compiler"] = GCV_COMPILER;
  info["torch_target"] = GCV_TORCH_TARGET;
  info["cuda_compiler"] = GCV_CUDA_COMPILER;
  info["cuda_archs"] = GCV_CUDA_ARCHS;
  return info;
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Build information and choice of instruction set.";
  m.def("build_info", &build_info, "How the package was built.");
  m.def("cpu_features", &cpu_features,
        "The instruction set extensions that matter here and this processor has.");
  m.def("available_isas", &available_isas,
        "Instruction sets whose kernels run on this processor, least first.");
  m.def("isa", [] { return std::string(gcv::isa_name(gcv::active_isa())); }, "The instruction set in use.");
  m.def("set_isa", &set_isa, py::arg("name"), "Use the kernels of one instruction set in this process.");
}
