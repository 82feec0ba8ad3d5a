// Drives the CPU kernels of room yolo at every instruction set with exactly sized memory, for the sanitizers,
// and compares them with plain loops. `yolo_cpu_test full` adds larger maps.
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

#include "yolo_naive.h"

namespace {

using namespace gcv_test;
using gcv::YoloVersion;
using Sizes = std::vector<std::pair<int, int>>;

int failures = 0;

void require(bool passed, const std::string& what) {
  if (passed) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

template <class T>
Decoded<T> decode(const Network<T>& n, bool threads = false) {
  Decoded<T> out;
  const auto p = params_of(n, out);
  const int64_t blocks = n.maps.batch * gcv::yolo_blocks(n.maps), half = threads ? blocks / 2 : 0;
  std::thread other([&] { gcv::yolo_decode_cpu(p, 0, half); });
  gcv::yolo_decode_cpu(p, half, blocks);
  other.join();
  return out;
}

template <class T>
Detections<T> detect(const Network<T>& n, const Limits& limits) {
  Detections<T> out;
  const auto p = params_of(n, limits, out);
  std::vector<std::thread> pool;
  for (int64_t image = 0; image < n.maps.batch; ++image) {
    pool.emplace_back([&p, image] {
      gcv::yolo_detect_cpu(p, exactly(gcv::yolo_detect_workspace_bytes(p)).get(), image, image + 1);
    });
  }
  for (std::thread& thread : pool) thread.join();
  return out;
}

const float kLetterbox[] = {0.5f, 3, 4, 50, 60, 2, 0, 1, 20, 30};

template <class T>
void check(YoloVersion version, const Sizes& sizes, const std::string& where) {
  for (bool channels_last : {false, true}) {
    const auto n = make_network<T>(version, sizes, 2, 4, channels_last);
    require(decode(n, true) == naive_decode(n), where + ", decode");
    for (bool multi_label : {false, true}) {
      for (bool agnostic : {false, true}) {
        for (int64_t most : {0, 7, 200}) {
          const Limits limits{0.2,      most,        most == 7 ? 20 : 30000,
                              agnostic, multi_label, most == 7 ? kLetterbox : nullptr};
          require(detect(n, limits) == naive_detect(n, limits), where + ", detect");
        }
      }
    }
  }
}

void check_gradient(YoloVersion version, const std::string& where) {
  auto n = make_network<double>(version, {{3, 4}, {2, 2}}, 1, 3, true);
  const auto of_boxes = weights(size_t(n.maps.boxes * 4)), of_scores = weights(size_t(n.maps.boxes * 3));
  std::vector<double> grad_maps;
  const auto p = backward_params(n, of_boxes, of_scores, grad_maps);
  gcv::yolo_decode_backward_cpu(p, 0, gcv::yolo_blocks(n.maps));
  const double error = gradient_error(n, grad_maps, of_boxes, of_scores,
                                      [](const Network<double>& changed) { return decode(changed); });
  require(error < 1e-6, where + ", gradient");
}

}  // namespace

int main(int argc, char** argv) {
  const bool full = argc > 1 && std::strcmp(argv[1], "full") == 0;
  std::vector<Sizes> pyramids = {{{1, 1}}, {{5, 9}, {0, 3}, {2, 3}}, {{9, 11}}};
  if (full) pyramids.push_back({{30, 33}, {15, 16}});
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (!gcv::set_isa(isa)) {
      std::printf("skipped %s: this processor lacks it\n", gcv::isa_name(isa));
      continue;
    }
    for (auto version :
         {YoloVersion::v1, YoloVersion::v2, YoloVersion::v3, YoloVersion::v5, YoloVersion::v8}) {
      const std::string where = std::string(gcv::isa_name(isa)) + ", version " + std::to_string(int(version));
      for (const Sizes& sizes : pyramids) {
        check<float>(version, sizes, where);
        check<double>(version, sizes, where);
      }
      check_gradient(version, where);
    }
  }
  std::printf("%s\n", failures ? "some checks failed" : "all checks passed");
  return failures ? 1 : 0;
}
