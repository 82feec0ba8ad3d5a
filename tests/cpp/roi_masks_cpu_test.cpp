// Drives the CPU kernels of paste_masks at every instruction set with exactly sized memory, for the
// sanitizers, and compares them with the formula.
#include <cstdio>
#include <thread>

#include "roi_masks_naive.h"

namespace {

template <class T>
bool right(const gcv::PasteCase& c) {
  const gcv::PasteArrays<T> arrays(c);
  std::vector<T> images(arrays.images.size(), T(-7)), grads(arrays.masks.size(), T(-7));
  const auto forward = gcv::paste_params(c, arrays, images);
  const auto backward = gcv::paste_backward_params(c, arrays, grads);
  const int64_t strips = c.count * gcv::mask_strips(c.height);
  std::thread other([&] {
    gcv::paste_masks_cpu(forward, 0, strips / 3);
    gcv::paste_masks_backward_cpu(backward, 0, c.count / 2);
  });
  gcv::paste_masks_cpu(forward, strips / 3, strips);
  gcv::paste_masks_backward_cpu(backward, c.count / 2, c.count);
  other.join();
  return gcv::pasted_right(c, arrays, images, grads);
}

}  // namespace

int main() {
  int failures = 0;
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (!gcv::set_isa(isa)) continue;
    for (const gcv::PasteCase& c : gcv::paste_cases()) {
      if (right<float>(c) && right<double>(c)) continue;
      ++failures;
      std::printf("FAILED: paste_masks, %s, %lld masks of %lld x %lld cells\n", gcv::isa_name(isa),
                  static_cast<long long>(c.count), static_cast<long long>(c.rows),
                  static_cast<long long>(c.columns));
    }
  }
  std::printf("%s\n", failures ? "some checks failed" : "all checks passed");
  return failures ? 1 : 0;
}
