// Encoding, decoding and clipping on the device.
#include "boxes/coding_cuda.h"
#include "boxes/coding_rows.h"
#include "boxes/row_map_cuda.h"

namespace gcv {
namespace {

template <class Element>
cudaError_t encode(const BoxEncodeParams& p, cudaStream_t stream) {
  using T = ComputeOf<Element>;
  return map_rows<EncodeRow<T>, Element>(coder_constants<T>(p.weights), {p.reference_boxes, p.proposals},
                                         {p.deltas}, p.n, stream);
}

template <class Element>
cudaError_t encode_backward(const BoxEncodeBackwardParams& p, cudaStream_t stream) {
  using T = ComputeOf<Element>;
  return map_rows<EncodeBackwardRow<T>, Element>(coder_constants<T>(p.weights),
                                                 {p.grad, p.reference_boxes, p.proposals},
                                                 {p.grad_reference_boxes, p.grad_proposals}, p.n, stream);
}

BoxRows repeated(BoxRows rows, int64_t times) {
  rows.repeat = times;
  return rows;
}

template <class Element>
cudaError_t decode(const BoxDecodeParams& p, cudaStream_t stream) {
  using T = ComputeOf<Element>;
  return map_rows<DecodeRow<T>, Element>(coder_constants<T>(p.weights, p.clip),
                                         {p.deltas, repeated(p.anchors, p.classes)}, {p.boxes},
                                         p.n * p.classes, stream);
}

// `team` neighbouring lanes, a power of two, share an anchor: they take turns at its classes, and add up in a
// fixed order.
template <class Element>
__global__ void __launch_bounds__(kRowThreads)
    decode_backward_kernel(RowMap<DecodeBackwardRow<ComputeOf<Element>>, Element> map, int64_t classes,
                           int team) {
  using T = ComputeOf<Element>;
  using Maths = DecodeBackwardRow<T>;
  const int64_t thread = int64_t(blockIdx.x) * kRowThreads + threadIdx.x;
  const int64_t anchor = thread / team;
  T sum[4] = {};
  if (anchor < map.n) {
    for (int64_t c = thread % team; c < classes; c += team) {
      const int64_t row = anchor * classes + c;
      T in[12], out[8];
      load_rows(typename Maths::In{}, map.in, row, in);
      Maths::apply(map.constants, in, out);
      store_row<4>(out, map.out[0], row);
      for (int k = 0; k < 4; ++k) sum[k] += out[4 + k];
    }
  }
  for (int half = team / 2; half > 0; half /= 2) {
    for (int k = 0; k < 4; ++k) sum[k] += __shfl_xor_sync(0xffffffffu, sum[k], half);
  }
  if (anchor < map.n && thread % team == 0) store_row<4>(sum, map.out[1], anchor);
}

template <class Element>
cudaError_t decode_backward(const BoxDecodeBackwardParams& p, cudaStream_t stream) {
  using T = ComputeOf<Element>;
  if (p.n == 0) return cudaSuccess;
  int team = 1;
  while (team < 32 && team < p.classes) team *= 2;
  const auto map = row_map<DecodeBackwardRow<T>, Element>(coder_constants<T>(p.weights, p.clip),
                                                          {p.grad, p.deltas, repeated(p.anchors, p.classes)},
                                                          {p.grad_deltas, p.grad_anchors}, p.n);
  return launch(decode_backward_kernel<Element>,
                {blocks_of(p.n * team, kRowThreads), dim3(kRowThreads), 0, stream}, map, p.classes, team);
}

template <class Element>
cudaError_t clip(const ClipBoxesParams& p, cudaStream_t stream) {
  return map_rows<ClipRow<ComputeOf<Element>>, Element>(image_size<Element>(p.height, p.width), {p.boxes},
                                                        {p.clipped}, p.n, stream);
}

template <class Element>
cudaError_t clip_backward(const ClipBoxesBackwardParams& p, cudaStream_t stream) {
  return map_rows<ClipBackwardRow<ComputeOf<Element>>, Element>(
      image_size<Element>(p.height, p.width), {p.grad, p.boxes}, {p.grad_boxes}, p.n, stream);
}

}  // namespace

cudaError_t box_encode_cuda(const BoxEncodeParams& p, cudaStream_t stream) {
  return GCV_BY_DTYPE(p.dtype, encode, p, stream);
}

cudaError_t box_encode_backward_cuda(const BoxEncodeBackwardParams& p, cudaStream_t stream) {
  return GCV_BY_DTYPE(p.dtype, encode_backward, p, stream);
}

cudaError_t box_decode_cuda(const BoxDecodeParams& p, cudaStream_t stream) {
  return GCV_BY_DTYPE(p.dtype, decode, p, stream);
}

cudaError_t box_decode_backward_cuda(const BoxDecodeBackwardParams& p, cudaStream_t stream) {
  return GCV_BY_DTYPE(p.dtype, decode_backward, p, stream);
}

cudaError_t clip_boxes_cuda(const ClipBoxesParams& p, cudaStream_t stream) {
  return GCV_BY_DTYPE(p.dtype, clip, p, stream);
}

cudaError_t clip_boxes_backward_cuda(const ClipBoxesBackwardParams& p, cudaStream_t stream) {
  return GCV_BY_DTYPE(p.dtype, clip_backward, p, stream);
}

}  // namespace gcv
