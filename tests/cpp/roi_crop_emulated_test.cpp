// roi_crop_emulated_test [--order ORDER] [CASE]: the launchers of csrc/roi/crop_cuda.h, executed by the
// emulator, against the definition. Buffers have exactly the documented sizes, so that AddressSanitizer sees
// a step beyond them. Exit status: 0 all right, 1 wrong result or failed launch, 3 bad usage.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <map>
#include <stdexcept>
#include <string>

#include "emulator/engine.h"
#include "emulator/sanitizers.h"
#include "roi/crop_cuda.h"
#include "roi_crop_naive.h"

namespace {

using gcv::emulator::kThreadSanitizer;
using gcv_test::close;
using gcv_test::Scene;
using gcv_test::Shape;

void require(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error(what);
}

void launched(cudaError_t error) {
  require(error == cudaSuccess, "launch failed: " + std::to_string(error) + " " + gcv_emulator_last_error());
}

template <class T>
void compare(const Shape& shape, bool channels_last, bool nearest, bool normalised) {
  Scene<T> scene(shape, channels_last, nearest, normalised, 3);
  const auto expected = gcv_test::naive(scene);
  launched(gcv::crop_and_resize_cuda(scene.forward(), nullptr));
  require(close(scene.crops, expected.crops), "crops");
  launched(gcv::crop_and_resize_backward_cuda(scene.backward(), nullptr));
  require(close(scene.grad_images, expected.grad_images), "gradient of images");
  if (nearest) return;
  std::vector<double> sums(4 * shape.boxes);
  launched(gcv::crop_and_resize_boxes_backward_cuda({scene.boxes_backward(), sums.data()}, nullptr));
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
  launched(gcv::crop_and_resize_cuda(scene.forward(), nullptr));
  launched(gcv::crop_and_resize_backward_cuda(scene.backward(), nullptr));
  require(std::all_of(scene.grad_images.begin(), scene.grad_images.end(), [](float x) { return x == 0; }),
          "no boxes pass no gradient");
  launched(gcv::crop_and_resize_boxes_backward_cuda({scene.boxes_backward(), nullptr}, nullptr));
}

const std::map<std::string, std::function<void()>> kCases = {
    {"layouts", check_layouts},
    {"shapes", check_shapes},
    {"groups_of_channels", check_groups_of_channels},
    {"nothing", check_nothing},
};

int run_case(const std::string& name, const std::function<void()>& check) {
  try {
    check();
    std::printf("%s: passed\n", name.c_str());
    return 0;
  } catch (const std::exception& error) {
    std::printf("%s: failed: %s\n", name.c_str(), error.what());
    return 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() >= 2 && words[0] == "--order") {
    if (gcv_emulator_set_order(words[1].c_str()) != 0) return 3;
    words.erase(words.begin(), words.begin() + 2);
  }
  int worst = 0;
  for (const auto& [name, check] : kCases) {
    if (words.empty() || words[0] == name) worst = std::max(worst, run_case(name, check));
  }
  return !words.empty() && kCases.count(words[0]) == 0 ? 3 : worst;
}
