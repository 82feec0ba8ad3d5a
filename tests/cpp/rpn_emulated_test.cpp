// The launcher of csrc/rpn/rpn_cuda.h, executed by the emulator, against sorts and plain loops. Buffers
// have exactly the documented sizes, so that AddressSanitizer sees a step beyond them. Under
// ThreadSanitizer every kernel runs, but on less: a thread of a grid costs it several mappings, of which a
// process may have some 65,000.
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "emulated_cases.h"
#include "emulator/sanitizers.h"
#include "rpn/rpn_cuda.h"
#include "rpn_naive.h"

namespace {

using gcv::check_launch;
using gcv::require;
using gcv_test::LevelSize;
using gcv_test::Logits;
using gcv_test::Proposals;
using gcv_test::Pyramid;
using Levels = std::vector<LevelSize>;
using gcv::emulator::kThreadSanitizer;

std::unique_ptr<void, void (*)(void*)> exactly(size_t bytes) {
  void* memory = nullptr;
  require(posix_memalign(&memory, 64, std::max<size_t>(bytes, 1)) == 0, "out of memory");
  std::memset(memory, 0xa5, bytes);
  return {memory, std::free};
}

void run(const gcv::RpnParams& rpn, int chunk_rows) {
  gcv::RpnCudaParams p{rpn, chunk_rows, nullptr};
  const auto workspace = exactly(gcv::rpn_proposals_cuda_workspace_bytes(p));
  p.workspace = workspace.get();
  const cudaError_t error = gcv::rpn_proposals_cuda(p, nullptr);
  require(error == cudaSuccess, "launch failed: " + std::to_string(error) + " " + gcv_emulator_last_error());
}

template <class T>
void compare(const Pyramid<T>& pyramid, int64_t pre, int64_t post, int chunk_rows,
             double nms_threshold = 0.5) {
  Proposals<T> expected, found;
  gcv::RpnParams naive = gcv_test::params_of(pyramid, pre, post, expected);
  gcv::RpnParams launched = gcv_test::params_of(pyramid, pre, post, found);
  naive.nms_threshold = launched.nms_threshold = nms_threshold;
  gcv_test::naive_proposals<T>(naive);
  run(launched, chunk_rows);
  require(found == expected, std::to_string(pyramid.sizes.size()) + " levels, pre " + std::to_string(pre) +
                                 ", post " + std::to_string(post));
}

const Levels kPyramid = {{3, 5, 7}, {2, 3, 4}, {1, 2, 0}, {0, 3, 3}};

void check_layouts() {
  for (int layout = 0; layout < 4; layout += kThreadSanitizer ? 3 : 1) {
    const int batch = kThreadSanitizer ? 1 : 2;
    compare(gcv_test::make_pyramid<float>(kPyramid, batch, Logits::random, layout & 1, layout & 2), 60, 50,
            64);
    if (kThreadSanitizer) continue;
    compare(gcv_test::make_pyramid<double>(kPyramid, 2, Logits::random, layout & 1, layout & 2), 60, 50, 64);
  }
}

void check_limits_of_results() {
  const int batch = kThreadSanitizer ? 1 : 2;
  const auto pyramid = gcv_test::make_pyramid<float>(kPyramid, batch, Logits::tied, false, false);
  for (auto [pre, post] : {std::pair<int64_t, int64_t>{0, 9}, {24, 0}, {1, 1}, {24, 9}, {1000, 300}}) {
    compare(pyramid, pre, post, 64);
  }
}

void check_special_values() {
  compare(gcv_test::make_pyramid<double>(kPyramid, 1, Logits::odd, true, false), 40, 60, 64);
  if (kThreadSanitizer) return;
  compare(gcv_test::make_pyramid<float>(kPyramid, 2, Logits::odd, false, true), 40, 60, 64);
}

// Ties at the last selected logit, in two slices of a level.
void check_slices() {
  const Levels levels = {{3, 36, 40}, {1, 2, 2}};
  if (kThreadSanitizer) {
    compare(gcv_test::make_pyramid<float>(levels, 1, Logits::tied, false, false), 100, 100, 64);
    return;
  }
  for (Logits kind : {Logits::random, Logits::tied}) {
    const auto pyramid = gcv_test::make_pyramid<float>(levels, 1, kind, false, false);
    for (int64_t pre : {100, 1300}) compare(pyramid, pre, 100, 256);
  }
}

// More candidates than a sorted tile holds.
void check_sorted_tiles() {
  if (kThreadSanitizer) {
    compare(gcv_test::make_pyramid<float>({{1, 45, 48}}, 1, Logits::tied, false, false), 2100, 100, 256);
    return;
  }
  for (Logits kind : {Logits::random, Logits::tied}) {
    compare(gcv_test::make_pyramid<float>({{3, 36, 40}}, 1, kind, false, false), 4200, 1500, 512);
  }
}

// Several chunks, and enough kept in the midst of one.
void check_chunks() {
  const int batch = kThreadSanitizer ? 1 : 2;
  const auto pyramid =
      gcv_test::make_pyramid<float>({{3, 9, 10}, {3, 5, 5}}, batch, Logits::random, false, false);
  compare(pyramid, 300, 70, 64, 0.9);
  if (kThreadSanitizer) return;
  compare(pyramid, 300, 300, 64, 0.3);
  for (int64_t post : {30, 300}) compare(pyramid, 300, post, 64, 0.9);
}

void check_limits() {
  auto pyramid =
      gcv_test::make_pyramid<float>({{1, 1, 2}}, 3 * gcv::kRpnImagesPerGroup, Logits::random, false, false);
  Proposals<float> out;
  const auto bytes = [&](int64_t batch, int64_t pre, int64_t post) {
    gcv::RpnParams p = gcv_test::params_of(pyramid, pre, post, out);
    p.batch = batch;
    return gcv::rpn_proposals_cuda_workspace_bytes({p, gcv::kRpnChunkRows, nullptr});
  };
  require(bytes(3 * gcv::kRpnImagesPerGroup, 2, 2) == bytes(gcv::kRpnImagesPerGroup, 2, 2),
          "a group's workspace");
  require(bytes(5, 0, 2) == 0 && bytes(5, 2, 0) == 0, "nothing to select needs no workspace");
  for (int chunk_rows : {0, 100, 4096}) {
    const gcv::RpnCudaParams p{gcv_test::params_of(pyramid, 2, 2, out), chunk_rows, nullptr};
    require(gcv::rpn_proposals_cuda(p, nullptr) == cudaErrorInvalidValue,
            "chunks are whole tiles, 2048 rows at most");
  }
}

const gcv::EmulatedCases kCases = {
    {"layouts", check_layouts},
    {"limits_of_results", check_limits_of_results},
    {"special_values", check_special_values},
    {"slices", check_slices},
    {"sorted_tiles", check_sorted_tiles},
    {"chunks", check_chunks},
    {"limits", check_limits},
};

}  // namespace

int main(int argc, char** argv) { return gcv::run_cases(kCases, argc, argv); }
