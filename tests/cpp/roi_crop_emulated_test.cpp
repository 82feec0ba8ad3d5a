// The launchers of csrc/roi/crop_cuda.h, executed by the emulator, against the definition. Buffers have
// exactly the documented sizes, so that AddressSanitizer sees a step beyond them.
#include <algorithm>
#include <initializer_list>

#include "emulated_cases.h"
#include "emulator/sanitizers.h"
#include "roi/crop_cuda.h"
#include "roi_crop_naive.h"

namespace {

using gcv::check_launch;
using gcv::require;
using gcv::emulator::kThreadSanitizer;
using gcv_test::close;
using gcv_test::Scene;
using gcv_test::Shape;

template <class T>
void compare(const Shape& shape, bool channels_last, bool nearest, bool normalised) {
  Scene<T> scene(shape, channels_last, nearest, normalised, 3);
  const auto expected = gcv_test::naive(scene);
  check_launch(gcv::crop_and_resize_cuda(scene.forward(), nullptr));
  require(close(scene.crops, expected.crops), "crops");
  check_launch(gcv::crop_and_resize_backward_cuda(scene.backward(), nullptr));
  require(close(scene.grad_images, expected.grad_images), "gradient of images");
  if (nearest) return;
  std::vector<double> sums(4 * shape.boxes);
  check_launch(gcv::crop_and_resize_boxes_backward_cuda({scene.boxes_backward(), sums.data()}, nullptr));
  require(close(scene.grad_boxes, expected.grad_boxes), "gradient of boxes");
}

const Shape kSmall = {2, 3, 5, 6, 4, 3, 4};

void check_layouts() {
  for (bool channels_last : {false, true}) {
    for (bool nearest : {false, true}) {
      compare<float>(kSmall, channels_last, nearest, false);
      if (!kThreadSanitizer) compare<double>(kSmall, channels_last, nearest, true);
    }
  }
}

void check_shapes() {
  const Shape small = {1, 1, 1, 7, 4, 1, 5};
  compare<float>(small, false, false, true);
  if (kThreadSanitizer) return;
  for (const Shape& shape :
       {Shape{2, 10, 9, 11, 5, 13, 7}, Shape{1, 2, 17, 1, 4, 33, 1}, Shape{2, 1, 3, 40, 6, 2, 5}}) {
    for (bool channels_last : {false, true}) compare<float>(shape, channels_last, false, false);
  }
}

// More channels than numbers travel with a launch.
void check_groups_of_channels() {
  const Shape shape = {1, 67, 3, 2, 2, 2, 3};
  compare<float>(shape, false, false, true);
  if (!kThreadSanitizer) compare<double>(shape, true, false, true);
}

void check_nothing() {
  Scene<float> scene({1, 2, 3, 4, 0, 2, 2}, false, false, false, 1);
  check_launch(gcv::crop_and_resize_cuda(scene.forward(), nullptr));
  check_launch(gcv::crop_and_resize_backward_cuda(scene.backward(), nullptr));
  require(std::all_of(scene.grad_images.begin(), scene.grad_images.end(), [](float x) { return x == 0; }),
          "no boxes pass no gradient");
  check_launch(gcv::crop_and_resize_boxes_backward_cuda({scene.boxes_backward(), nullptr}, nullptr));
}

const gcv::EmulatedCases kCases = {
    {"layouts", check_layouts},
    {"shapes", check_shapes},
    {"groups_of_channels", check_groups_of_channels},
    {"nothing", check_nothing},
};

}  // namespace

int main(int argc, char** argv) { return gcv::run_cases(kCases, argc, argv); }
