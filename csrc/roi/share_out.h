// How CPU bindings of the room share work and fresh memory among threads. Only *_torch_cpu.cpp files include
// this.
#pragma once

#include <algorithm>
#include <atomic>

#include "common/scratch.h"
#include "common/torch_tensor.h"

namespace gcv {

// Threads that meet in a fresh huge page would each clear one. So each page is taken by one thread
// beforehand.
inline void take_pages(void* output, int64_t bytes) {
  constexpr int64_t huge = int64_t(2) << 20;
  if (bytes < 2 * huge || torch::stable::get_num_threads() == 1) return;
  auto* first = static_cast<volatile char*>(output);
  const int64_t ahead = huge - int64_t(reinterpret_cast<uintptr_t>(output) % huge);
  torch::stable::parallel_for(0, (bytes - ahead + huge - 1) / huge, 1, [&](int64_t begin, int64_t end) {
    for (int64_t page = begin; page < end; ++page) first[ahead + page * huge] = 0;
  });
}

inline int64_t bytes_of_one(DType dtype) { return dtype == DType::f64 ? 8 : dtype == DType::f32 ? 4 : 2; }

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

}  // namespace gcv
