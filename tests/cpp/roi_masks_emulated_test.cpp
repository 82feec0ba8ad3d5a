// The launchers of csrc/roi/masks_cuda.h, executed by the emulator in exactly sized memory.
#include <string>
#include <vector>

#include "emulated_cases.h"
#include "emulator/sanitizers.h"
#include "roi/masks_cuda.h"
#include "roi_masks_naive.h"

namespace {

// ThreadSanitizer has no room for larger grids.
constexpr int64_t kMostRows = gcv::emulator::kThreadSanitizer ? 8 : 1000;

template <class T>
void check(const gcv::PasteCase& c) {
  const gcv::PasteArrays<T> arrays(c);
  std::vector<T> images(arrays.images.size(), T(-7)), grads(arrays.masks.size(), T(-7));
  gcv::check_launch(gcv::paste_masks_cuda(gcv::paste_params(c, arrays, images), nullptr));
  gcv::check_launch(gcv::paste_masks_backward_cuda(gcv::paste_backward_params(c, arrays, grads), nullptr));
  gcv::require(gcv::pasted_right(c, arrays, images, grads), std::to_string(c.count) + " masks of " +
                                                                std::to_string(c.rows) + " x " +
                                                                std::to_string(c.columns) + " cells");
}

template <class T>
void check_all() {
  for (const gcv::PasteCase& c : gcv::paste_cases()) {
    if (c.rows <= kMostRows) check<T>(c);
  }
}

const gcv::EmulatedCases kCases = {{"fp32", check_all<float>}, {"fp64", check_all<double>}};

}  // namespace

int main(int argc, char** argv) { return gcv::run_cases(kCases, argc, argv); }
