// The launcher of csrc/pixel_sampling/sampling_cuda.h, executed by the emulator in exactly sized memory.
#include <string>

#include "emulated_cases.h"
#include "emulator/sanitizers.h"
#include "pixel_sampling/sampling_cuda.h"
#include "pixel_sampling_naive.h"

namespace {

// ThreadSanitizer has no room for larger grids.
constexpr int64_t kMostImages = gcv::emulator::kThreadSanitizer ? 10 : 100;

// All lines in one launch, and the same in two.
template <class T>
void check(const gcv::SamplingCase& c, int64_t first_count) {
  gcv::SamplingArrays<T> a(c, [](int64_t columns) { return columns; });
  T* rest = a.params.data() + first_count * c.pixels * c.images * a.channels(2);
  gcv::check_launch(gcv::pixel_sampling_cuda(a.program, 0, first_count, a.params.data(), nullptr));
  gcv::check_launch(gcv::pixel_sampling_cuda(a.program, first_count, c.lines - first_count, rest, nullptr));
  gcv::require(gcv::sampled_right(c, a), "head " + std::to_string(int(c.head)) + ", " +
                                             std::to_string(c.steps) + " steps, " + std::to_string(c.images) +
                                             " images");
}

template <class T>
void check_all() {
  for (const gcv::SamplingCase& c : gcv::sampling_cases()) {
    if (c.images > kMostImages) continue;
    check<T>(c, c.lines);
    check<T>(c, c.lines / 2);
  }
}

const gcv::EmulatedCases kCases = {{"fp32", check_all<float>}, {"fp64", check_all<double>}};

}  // namespace

int main(int argc, char** argv) { return gcv::run_cases(kCases, argc, argv); }
