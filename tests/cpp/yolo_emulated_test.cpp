// The launchers of csrc/yolo/yolo_cuda.h, executed by the emulator, against plain loops. Buffers have
// exactly the documented sizes, so that AddressSanitizer sees a step beyond them.
#include <numeric>
#include <string>

#include "emulated_cases.h"
#include "emulator/sanitizers.h"
#include "yolo/yolo_cuda.h"
#include "yolo_naive.h"

namespace {

using gcv::check_launch;
using gcv::require;
using namespace gcv_test;
using gcv::YoloVersion;
using gcv::emulator::kThreadSanitizer;
using Sizes = std::vector<std::pair<int, int>>;

const YoloVersion kVersions[] = {YoloVersion::v1, YoloVersion::v2, YoloVersion::v3, YoloVersion::v5,
                                 YoloVersion::v8};
const float kLetterbox[] = {0.5f, 3, 4, 50, 60, 2, 0, 1, 20, 30};

template <class T>
Decoded<T> decode(const Network<T>& n) {
  Decoded<T> out;
  check_launch(gcv::yolo_decode_cuda(params_of(n, out), nullptr));
  return out;
}

template <class T>
Detections<T> detect(const Network<T>& n, const Limits& limits) {
  Detections<T> out;
  const auto p = params_of(n, limits, out);
  const int64_t candidates = gcv::yolo_candidates(p), batch = n.maps.batch;
  std::vector<T> keys(size_t(batch * candidates)), sorted(keys.size());
  std::vector<int64_t> order(keys.size());
  std::vector<int32_t> best_class(size_t(p.multi_label ? 0 : batch * n.maps.boxes));
  check_launch(gcv::yolo_keys_cuda({p, keys.data(), best_class.data()}, nullptr));
  for (int64_t image = 0; image < batch; ++image) {
    const T* own = keys.data() + image * candidates;
    int64_t* own_order = order.data() + image * candidates;
    std::iota(own_order, own_order + candidates, 0);
    std::stable_sort(own_order, own_order + candidates,
                     [&](int64_t a, int64_t b) { return own[a] > own[b]; });
    for (int64_t i = 0; i < candidates; ++i) sorted[size_t(image * candidates + i)] = own[own_order[i]];
  }
  const auto workspace = exactly(gcv::yolo_greedy_cuda_workspace_bytes(p));
  check_launch(
      gcv::yolo_greedy_cuda({p, sorted.data(), order.data(), best_class.data(), workspace.get()}, nullptr));
  return out;
}

template <class T>
void compare_decoded(const Sizes& sizes, bool channels_last) {
  for (YoloVersion version : kVersions) {
    const auto n = make_network<T>(version, sizes, kThreadSanitizer ? 1 : 2, 4, channels_last);
    require(decode(n) == naive_decode(n), "version " + std::to_string(int(version)));
  }
}

void check_decode() {
  compare_decoded<float>({{3, 5}, {0, 3}, {2, 3}}, false);
  if (kThreadSanitizer) return;
  compare_decoded<double>({{3, 5}, {2, 3}}, true);
  compare_decoded<float>({{9, 15}}, true);
}

void check_gradient() {
  for (YoloVersion version : kVersions) {
    auto n = make_network<double>(version, {{2, 3}, {1, 2}}, 1, 3, true);
    const auto of_boxes = weights(size_t(n.maps.boxes * 4)), of_scores = weights(size_t(n.maps.boxes * 3));
    std::vector<double> grad_maps;
    check_launch(gcv::yolo_decode_backward_cuda(backward_params(n, of_boxes, of_scores, grad_maps), nullptr));
    const auto again = [](const Network<double>& changed) { return naive_decode(changed); };
    require(gradient_error(n, grad_maps, of_boxes, of_scores, again) < 1e-6,
            "version " + std::to_string(int(version)));
  }
}

template <class T>
void compare_detections(const Sizes& sizes, const Limits& limits) {
  for (YoloVersion version : kVersions) {
    const auto n = make_network<T>(version, sizes, kThreadSanitizer ? 1 : 2, 4, false);
    require(detect(n, limits) == naive_detect(n, limits), "version " + std::to_string(int(version)));
  }
}

void check_detect() {
  compare_detections<float>({{3, 5}, {2, 3}}, {0.2, 7, 20, false, false, kLetterbox});
  if (kThreadSanitizer) return;
  compare_detections<double>({{3, 5}, {2, 3}}, {0.2, 40, 30000, true, false, nullptr});
}

// Several tiles of candidates, and enough kept in the midst of one.
void check_tiles() {
  const Sizes sizes = kThreadSanitizer ? Sizes{{6, 7}} : Sizes{{9, 10}, {5, 5}};
  compare_detections<float>(sizes, {0.1, 30, 30000, false, true, nullptr});
  if (kThreadSanitizer) return;
  compare_detections<float>(sizes, {0.1, 300, 150, false, true, nullptr});
  compare_detections<float>(sizes, {0.1, 300, 30000, true, true, nullptr});
}

void check_limits() {
  compare_detections<float>({{2, 3}}, {0.2, 0, 100, false, false, nullptr});
  compare_detections<float>({{2, 3}}, {0.2, 5, 0, false, false, nullptr});
  compare_detections<float>({{2, 3}}, {2.0, 5, 100, false, true, nullptr});
  compare_detections<float>({{0, 3}}, {0.2, 5, 100, false, true, nullptr});
}

const gcv::EmulatedCases kCases = {
    {"decode", check_decode}, {"gradient", check_gradient}, {"detect", check_detect},
    {"tiles", check_tiles},   {"limits", check_limits},
};

}  // namespace

int main(int argc, char** argv) { return gcv::run_cases(kCases, argc, argv); }
