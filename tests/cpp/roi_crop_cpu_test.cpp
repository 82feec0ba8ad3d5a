// Drives the CPU kernels of crop_and_resize at every instruction set with exactly sized memory, for the
// sanitizers, and compares them with the definition. `roi_crop_cpu_test full` adds larger crops.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <thread>

#include "common/isa.h"
#include "roi_crop_naive.h"

namespace {

using gcv_test::close;
using gcv_test::Scene;
using gcv_test::Shape;

int failures = 0;

void expect(bool condition, const char* what, const Shape& s, gcv::Isa isa) {
  if (condition) return;
  ++failures;
  std::printf("FAILED: %s, %s, %lld channels %lld x %lld to %lld x %lld\n", what, gcv::isa_name(isa),
              static_cast<long long>(s.channels), static_cast<long long>(s.height),
              static_cast<long long>(s.width), static_cast<long long>(s.crop_height),
              static_cast<long long>(s.crop_width));
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};

std::unique_ptr<void, Free> exactly(size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, bytes > 0 ? bytes : 1) != 0) std::abort();
  std::memset(p, 0xa5, bytes);
  return std::unique_ptr<void, Free>(p);
}

// Two threads, each with a workspace of its own.
template <class Run>
void halves(int64_t items, size_t bytes, const Run& run) {
  const auto task = [&](int64_t begin, int64_t end) { run(exactly(bytes).get(), begin, end); };
  std::thread other(task, 0, items / 2);
  task(items / 2, items);
  other.join();
}

template <class T>
void check(const Shape& shape, gcv::Isa isa) {
  for (int kind = 0; kind < 8; ++kind) {
    Scene<T> scene(shape, kind & 1, kind & 2, kind & 4, unsigned(kind));
    const auto expected = gcv_test::naive(scene);
    const gcv::CropParams forward = scene.forward();
    halves(gcv::crop_items(forward), gcv::crop_workspace_bytes(forward),
           [&](void* memory, int64_t begin, int64_t end) {
             gcv::crop_and_resize_cpu(forward, memory, begin, end);
           });
    expect(close(scene.crops, expected.crops), "crops", shape, isa);
    const gcv::CropBackwardParams backward = scene.backward();
    halves(shape.number * shape.height, gcv::crop_backward_workspace_bytes(backward),
           [&](void* memory, int64_t begin, int64_t end) {
             gcv::crop_and_resize_backward_cpu(backward, memory, begin, end);
           });
    expect(close(scene.grad_images, expected.grad_images), "gradient of images", shape, isa);
    if (scene.nearest) continue;
    const gcv::CropBoxesBackwardParams boxes = scene.boxes_backward();
    gcv::crop_and_resize_boxes_backward_cpu(boxes, 0, shape.boxes / 2);
    gcv::crop_and_resize_boxes_backward_cpu(boxes, shape.boxes / 2, shape.boxes);
    expect(close(scene.grad_boxes, expected.grad_boxes), "gradient of boxes", shape, isa);
  }
}

void check_bytes(gcv::Isa isa) {
  const Shape shape = {2, 3, 9, 33, 5, 7, 18};
  Scene<float> scene(shape, false, false, false, 1);
  for (float& x : scene.images) x += 8;
  const auto expected = gcv_test::naive(scene);
  const std::vector<uint8_t> bytes(scene.images.begin(), scene.images.end());
  gcv::CropParams p = scene.forward();
  p.images.data = bytes.data();
  p.bytes = true;
  halves(gcv::crop_items(p), gcv::crop_workspace_bytes(p),
         [&](void* memory, int64_t begin, int64_t end) { gcv::crop_and_resize_cpu(p, memory, begin, end); });
  expect(close(scene.crops, expected.crops), "crops of bytes", shape, isa);
}

}  // namespace

int main(int argc, char** argv) {
  // Crops narrower and wider than vectors, taken from spans that two vectors hold and from longer ones; many
  // channels; one row or column of crop or image.
  std::vector<Shape> shapes = {{2, 3, 9, 11, 5, 9, 5},  {1, 2, 5, 161, 4, 3, 11}, {2, 35, 5, 6, 4, 3, 4},
                               {2, 1, 9, 17, 4, 1, 33}, {1, 2, 1, 65, 4, 5, 1},   {1, 3, 17, 1, 4, 33, 3}};
  if (argc > 1 && std::strcmp(argv[1], "full") == 0) shapes.push_back({1, 20, 33, 65, 8, 65, 129});
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (!gcv::set_isa(isa)) {
      std::printf("skipped %s: this processor lacks it\n", gcv::isa_name(isa));
      continue;
    }
    for (const Shape& shape : shapes) {
      check<float>(shape, isa);
      check<double>(shape, isa);
    }
    check_bytes(isa);
  }
  std::printf("%s\n", failures ? "some checks failed" : "all checks passed");
  return failures ? 1 : 0;
}
