// How CPU bindings share work among threads. Only *_torch_cpu.cpp files include this.
#pragma once

#include <algorithm>
#include <atomic>

#include "common/scratch.h"
#include "common/torch_tensor.h"

namespace gcv {

// Calls run(scratch, begin, end) for pieces of `items`, a thread taking the next when it is done, on no more
// than `useful_threads`; each thread has `scratch_bytes` of its own.
template <class Run>
void share_out(int64_t items, int64_t piece, int64_t useful_threads, size_t scratch_bytes, const Run& run) {
  const int64_t pieces = (items + piece - 1) / piece;
  const int64_t most = std::min<int64_t>({torch::stable::get_num_threads(), pieces, useful_threads});
  const int64_t threads = std::max<int64_t>(1, most);
  scratch_bytes = (scratch_bytes + 63) / 64 * 64;
  const Scratch scratch(scratch_bytes * size_t(threads));
  char* base = static_cast<char*>(scratch.data());
  if (threads == 1) return run(base, 0, items);
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t thread = first; thread < last; ++thread) {
      for (int64_t at = next++; at < pieces; at = next++)
        run(base + size_t(thread) * scratch_bytes, at * piece, std::min(items, (at + 1) * piece));
    }
  });
}

// Calls run(begin, end) for one share of `items` a thread, on no more than `useful_threads`: a thread's items
// read the same rows, or lie where it has just worked.
template <class Run>
void share_evenly(int64_t items, int64_t useful_threads, const Run& run) {
  torch::stable::parallel_for(0, items, std::max<int64_t>(1, items / std::max<int64_t>(1, useful_threads)),
                              run);
}

}  // namespace gcv
