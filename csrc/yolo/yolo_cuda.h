// CUDA launchers of the room. They queue work on `stream` and never synchronise. Free of torch.
#pragma once

#include <cuda_runtime_api.h>

#include "yolo/yolo.h"

namespace gcv {

cudaError_t yolo_decode_cuda(const YoloDecodeParams& p, cudaStream_t stream);
cudaError_t yolo_decode_backward_cuda(const YoloDecodeBackwardParams& p, cudaStream_t stream);

// Detection in two steps, between which the caller sorts each image's keys, stable and descending. A key is a
// score, in float for half types, or -infinity where it does not reach the threshold.
struct YoloKeysParams {
  YoloDetectParams detect;
  void* keys;           // out [batch, yolo_candidates(detect)]
  int32_t* best_class;  // out [batch, boxes]; not used with multi_label
};

struct YoloGreedyParams {
  YoloDetectParams detect;
  const void* sorted_keys;    // [batch, yolo_candidates(detect)]
  const int64_t* order;       // [batch, yolo_candidates(detect)]: where each sorted key came from
  const int32_t* best_class;  // of yolo_keys_cuda
  void* workspace;            // yolo_greedy_cuda_workspace_bytes(detect), aligned to 64
};

// Of an image: class * boxes + box with multi_label, else the box.
inline int64_t yolo_candidates(const YoloDetectParams& p) {
  return p.maps.boxes * (p.multi_label ? p.maps.classes : 1);
}

cudaError_t yolo_keys_cuda(const YoloKeysParams& p, cudaStream_t stream);
size_t yolo_greedy_cuda_workspace_bytes(const YoloDetectParams& p);
cudaError_t yolo_greedy_cuda(const YoloGreedyParams& p, cudaStream_t stream);

}  // namespace gcv
