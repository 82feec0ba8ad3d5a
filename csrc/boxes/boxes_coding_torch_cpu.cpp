// Encoding, decoding, clipping, removal of small boxes and format conversion for CPU tensors.
#include <algorithm>

#include "boxes/coding_checks.h"
#include "common/scratch.h"

namespace gcv {
namespace {

// Less than this per task, some 30 to 100 us of work, is not worth waking a thread for.
constexpr int64_t kRowsPerTask = 65536;
constexpr int64_t kRotatedRowsPerTask = 32768;

template <class Run>
void in_parallel(int64_t items, int64_t per_task, const Run& run) {
  if (items <= per_task) {
    run(0, items);
  } else {
    torch::stable::parallel_for(0, items, per_task, run);
  }
}

Tensor box_encode(const Tensor& reference_boxes, const Tensor& proposals, std::vector<double> weights) {
  return box_encode_with(reference_boxes, proposals, weights, [](const BoxEncodeParams& p) {
    in_parallel(p.n, kRowsPerTask, [&](int64_t begin, int64_t end) { box_encode_cpu(p, begin, end); });
  });
}

std::tuple<Tensor, Tensor> box_encode_backward(const Tensor& grad, const Tensor& reference_boxes,
                                               const Tensor& proposals, std::vector<double> weights) {
  return box_encode_backward_with(
      grad, reference_boxes, proposals, weights, [](const BoxEncodeBackwardParams& p) {
        in_parallel(p.n, kRowsPerTask,
                    [&](int64_t begin, int64_t end) { box_encode_backward_cpu(p, begin, end); });
      });
}

Tensor box_decode(const Tensor& deltas, const Tensor& anchors, std::vector<double> weights, double clip) {
  return box_decode_with(deltas, anchors, weights, clip, [](const BoxDecodeParams& p) {
    in_parallel(p.n * p.classes, kRowsPerTask,
                [&](int64_t begin, int64_t end) { box_decode_cpu(p, begin, end); });
  });
}

std::tuple<Tensor, Tensor> box_decode_backward(const Tensor& grad, const Tensor& deltas,
                                               const Tensor& anchors, std::vector<double> weights,
                                               double clip) {
  return box_decode_backward_with(grad, deltas, anchors, weights, clip, [](const BoxDecodeBackwardParams& p) {
    const int64_t anchors_per_task = std::max<int64_t>(1, kRowsPerTask / std::max<int64_t>(1, p.classes));
    in_parallel(p.n, anchors_per_task,
                [&](int64_t begin, int64_t end) { box_decode_backward_cpu(p, begin, end); });
  });
}

Tensor clip_boxes(const Tensor& boxes, std::vector<int64_t> size) {
  return clip_boxes_with(boxes, size, [](const ClipBoxesParams& p) {
    in_parallel(p.n, kRowsPerTask, [&](int64_t begin, int64_t end) { clip_boxes_cpu(p, begin, end); });
  });
}

Tensor clip_boxes_backward(const Tensor& grad, const Tensor& boxes, std::vector<int64_t> size) {
  return clip_boxes_backward_with(grad, boxes, size, [](const ClipBoxesBackwardParams& p) {
    in_parallel(p.n, kRowsPerTask,
                [&](int64_t begin, int64_t end) { clip_boxes_backward_cpu(p, begin, end); });
  });
}

int64_t conversions_per_task(BoxFormat format) {
  return is_rotated(format) ? kRotatedRowsPerTask : kRowsPerTask;
}

Tensor box_convert(const Tensor& boxes, const std::string& in_fmt, const std::string& out_fmt) {
  return box_convert_with(boxes, in_fmt, out_fmt, [](const BoxConvertParams& p) {
    in_parallel(p.n, conversions_per_task(p.from),
                [&](int64_t begin, int64_t end) { box_convert_cpu(p, begin, end); });
  });
}

Tensor box_convert_backward(const Tensor& grad, const Tensor& boxes, const std::string& in_fmt,
                            const std::string& out_fmt) {
  return box_convert_backward_with(grad, boxes, in_fmt, out_fmt, [](const BoxConvertBackwardParams& p) {
    in_parallel(p.n, conversions_per_task(p.from),
                [&](int64_t begin, int64_t end) { box_convert_backward_cpu(p, begin, end); });
  });
}

// Chunks of words are counted, then each knows where its indices go.
constexpr int64_t kWordsPerChunk = 512;
constexpr int64_t kChunksPerTask = kRowsPerTask / 64 / kWordsPerChunk;

template <class Run>
void for_chunks(int64_t words, const Run& run) {
  const int64_t chunks = (words + kWordsPerChunk - 1) / kWordsPerChunk;
  in_parallel(chunks, kChunksPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      run(chunk, chunk * kWordsPerChunk, std::min((chunk + 1) * kWordsPerChunk, words));
    }
  });
}

Tensor remove_small_boxes(const Tensor& boxes, double min_size) {
  check_remove_small_boxes(boxes);
  const TensorRows rows = rows_of(boxes, 4);
  const SmallBoxesParams p = small_boxes_params(rows, min_size);
  const int64_t words = p.words(), chunks = (words + kWordsPerChunk - 1) / kWordsPerChunk;
  const Scratch scratch(size_t(words + chunks) * sizeof(int64_t));
  auto* flags = static_cast<uint64_t*>(scratch.data());
  auto* starts = static_cast<int64_t*>(scratch.data()) + words;
  for_chunks(words, [&](int64_t chunk, int64_t begin, int64_t end) {
    starts[chunk] = flag_large_boxes_cpu(p, flags, begin, end);
  });
  int64_t total = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t count = starts[chunk];
    starts[chunk] = total;
    total += count;
  }
  const Tensor indices = torch::stable::new_empty(boxes, {total}, ScalarType::Long);
  auto* out = indices.mutable_data_ptr<int64_t>();
  for_chunks(words, [&](int64_t chunk, int64_t begin, int64_t end) {
    list_large_boxes_cpu(p, flags, begin, end, out + starts[chunk]);
  });
  return indices;
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CPU, m) {
  m.impl("box_encode", TORCH_BOX(&box_encode));
  m.impl("box_encode_backward", TORCH_BOX(&box_encode_backward));
  m.impl("box_decode", TORCH_BOX(&box_decode));
  m.impl("box_decode_backward", TORCH_BOX(&box_decode_backward));
  m.impl("clip_boxes", TORCH_BOX(&clip_boxes));
  m.impl("clip_boxes_backward", TORCH_BOX(&clip_boxes_backward));
  m.impl("remove_small_boxes", TORCH_BOX(&remove_small_boxes));
  m.impl("box_convert", TORCH_BOX(&box_convert));
  m.impl("box_convert_backward", TORCH_BOX(&box_convert_backward));
}

}  // namespace
}  // namespace gcv
