// Drives the CPU kernels of the mixture at every instruction set with exactly sized memory, for the
// sanitizers, and compares them with the formula.
#include <cstdio>
#include <thread>

#include "mixture_naive.h"

namespace {

constexpr double kTemperature = 0.8;

struct Aligned {
  explicit Aligned(size_t bytes) : data(std::aligned_alloc(64, (bytes + 63) / 64 * 64)) {}
  Aligned(const Aligned&) = delete;
  ~Aligned() { std::free(data); }
  void* data;
};

template <class T>
bool right(const gcv::MixtureCase& c) {
  const gcv::MixtureArrays<T> a(c);
  std::vector<T> nll(a.grad.size(), T(-7)), grad_params(a.params.size(), T(-7));
  std::vector<uint8_t> levels(a.levels.size(), 7);
  const auto forward = gcv::mixture_nll_params(c, a, nll);
  const auto backward = gcv::mixture_backward_params(c, a, nll, grad_params);
  const auto sample = gcv::mixture_sample_params(c, a, kTemperature, levels);
  const int64_t blocks = c.batch * gcv::mixture_blocks(forward.maps);
  const auto run = [&](int64_t begin, int64_t end) {
    const Aligned workspace(gcv::mixture_nll_backward_workspace_bytes(backward));
    gcv::mixture_nll_cpu(forward, begin, end);
    gcv::mixture_nll_backward_cpu(backward, workspace.data, begin, end);
    gcv::mixture_sample_cpu(sample, begin, end);
  };
  std::thread other([&] { run(0, blocks / 2); });
  run(blocks / 2, blocks);
  other.join();
  return gcv::mixture_losses_right(c, a, nll, grad_params) &&
         gcv::mixture_samples_right(c, a, kTemperature, levels);
}

}  // namespace

int main() {
  int failures = 0;
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (!gcv::set_isa(isa)) continue;
    for (const gcv::MixtureCase& c : gcv::mixture_cases()) {
      if (right<float>(c) && right<double>(c)) continue;
      ++failures;
      std::printf("FAILED: mixture, %s, %lld colours, %lld components, %lld x %lld\n", gcv::isa_name(isa),
                  static_cast<long long>(c.colours), static_cast<long long>(c.mixtures),
                  static_cast<long long>(c.height), static_cast<long long>(c.width));
    }
  }
  std::printf("%s\n", failures ? "some checks failed" : "all checks passed");
  return failures ? 1 : 0;
}
