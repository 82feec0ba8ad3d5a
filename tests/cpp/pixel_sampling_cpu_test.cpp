// Drives the sampler's CPU kernels at every instruction set with exactly sized memory, for the sanitizers,
// and compares them with a drawing pixel by pixel.
#include <cstdio>
#include <functional>
#include <thread>

#include "pixel_sampling_naive.h"

namespace {

void in_two_threads(int64_t count, const std::function<void(gcv::SamplingRange)>& run) {
  std::thread other([&] { run({0, count / 2}); });
  run({count / 2, count});
  other.join();
}

template <class T>
bool right(const gcv::SamplingCase& c) {
  const gcv::DType type = sizeof(T) == 8 ? gcv::DType::f64 : gcv::DType::f32;
  gcv::SamplingArrays<T> a(c, [&](int64_t columns) { return gcv::sampling_padded_cpu(type, columns); });
  const gcv::SamplingProgram& p = a.program;
  for (int64_t i = 0; i < p.instruction_count; ++i) gcv::sampling_pack_cpu(p, i);
  for (int64_t line = 0; line < c.lines; ++line) {
    in_two_threads(c.pixels, [&](gcv::SamplingRange pixels) {
      for (int64_t i = 0; i < p.instruction_count; ++i) gcv::sampling_ahead_cpu(p, i, line, pixels);
    });
    T* params = a.params.data() + line * c.pixels * c.images * a.channels(2);
    in_two_threads(c.images, [&](gcv::SamplingRange images) {
      std::vector<double> scratch(gcv::sampling_scratch_cpu(p) / sizeof(double) + 1);
      if (images.begin < images.end) gcv::sampling_pixels_cpu(p, line, images, params, scratch.data());
    });
  }
  return gcv::sampled_right(c, a);
}

}  // namespace

int main() {
  int failures = 0;
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (!gcv::set_isa(isa)) continue;
    for (const gcv::SamplingCase& c : gcv::sampling_cases()) {
      if (right<float>(c) && right<double>(c)) continue;
      ++failures;
      std::printf("FAILED: sampling, %s, head %d, %lld steps, %lld images of %lld x %lld\n",
                  gcv::isa_name(isa), int(c.head), static_cast<long long>(c.steps),
                  static_cast<long long>(c.images), static_cast<long long>(c.lines),
                  static_cast<long long>(c.pixels));
    }
  }
  std::printf("%s\n", failures ? "some checks failed" : "all checks passed");
  return failures ? 1 : 0;
}
