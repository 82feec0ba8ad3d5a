// roi_masks_emulated_test [--order ORDER]: the launchers of csrc/roi/masks_cuda.h, executed by the emulator
// in exactly sized memory.
#include <cstdio>
#include <string>

#include "emulator/engine.h"
#include "roi/masks_cuda.h"
#include "roi_masks_naive.h"

namespace {

// ThreadSanitizer has no room for larger grids.
#ifdef GCV_EMULATOR_TSAN
constexpr int64_t kMostRows = 8;
#else
constexpr int64_t kMostRows = 1000;
#endif

template <class T>
bool right(const gcv::PasteCase& c) {
  const gcv::PasteArrays<T> arrays(c);
  std::vector<T> images(arrays.images.size(), T(-7)), grads(arrays.masks.size(), T(-7));
  if (gcv::paste_masks_cuda(gcv::paste_params(c, arrays, images), nullptr) != cudaSuccess) return false;
  if (gcv::paste_masks_backward_cuda(gcv::paste_backward_params(c, arrays, grads), nullptr) != cudaSuccess) {
    return false;
  }
  return gcv::pasted_right(c, arrays, images, grads);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--order" && gcv_emulator_set_order(argv[2]) != 0) return 3;
  bool passed = true;
  for (const gcv::PasteCase& c : gcv::paste_cases()) {
    if (c.rows > kMostRows) continue;
    const bool is_right = right<float>(c) && right<double>(c);
    std::printf("%lld masks of %lld x %lld cells: %s\n", static_cast<long long>(c.count),
                static_cast<long long>(c.rows), static_cast<long long>(c.columns),
                is_right ? "passed" : "failed");
    passed = passed && is_right;
  }
  return passed ? 0 : 1;
}
