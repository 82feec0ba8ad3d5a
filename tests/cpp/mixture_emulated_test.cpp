// The launchers of csrc/mixture/mixture_cuda.h, executed by the emulator in exactly sized memory.
#include <string>
#include <vector>

#include "emulated_cases.h"
#include "mixture/mixture_cuda.h"
#include "mixture_naive.h"

namespace {

constexpr double kTemperature = 0.8;

template <class T>
void check(const gcv::MixtureCase& c) {
  const gcv::MixtureArrays<T> a(c);
  std::vector<T> nll(a.grad.size(), T(-7)), grad_params(a.params.size(), T(-7));
  std::vector<uint8_t> levels(a.levels.size(), 7);
  gcv::check_launch(gcv::mixture_nll_cuda(gcv::mixture_nll_params(c, a, nll), nullptr));
  gcv::check_launch(
      gcv::mixture_nll_backward_cuda(gcv::mixture_backward_params(c, a, nll, grad_params), nullptr));
  gcv::check_launch(
      gcv::mixture_sample_cuda(gcv::mixture_sample_params(c, a, kTemperature, levels), nullptr));
  const std::string what = std::to_string(c.colours) + " colours, " + std::to_string(c.mixtures) +
                           " components, " + std::to_string(c.height) + " x " + std::to_string(c.width);
  gcv::require(gcv::mixture_losses_right(c, a, nll, grad_params), "losses: " + what);
  gcv::require(gcv::mixture_samples_right(c, a, kTemperature, levels), "samples: " + what);
}

template <class T>
void check_all() {
  for (const gcv::MixtureCase& c : gcv::mixture_cases()) check<T>(c);
}

const gcv::EmulatedCases kCases = {{"fp32", check_all<float>}, {"fp64", check_all<double>}};

}  // namespace

int main(int argc, char** argv) { return gcv::run_cases(kCases, argc, argv); }
