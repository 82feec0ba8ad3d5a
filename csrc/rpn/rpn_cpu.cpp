// Proposals on the CPU: the best candidates of each level, then suppression from the best score down, which
// ends with the last proposal that is asked for.
#include "nms/kept_boxes.h"
#include "rpn/rpn.h"
#include "rpn/select_best.h"

namespace gcv::GCV_ISA {
namespace {

template <class Element>
struct ImageMemory {
  using T = typename Compute<Element>::type;
  Box<T>* boxes;      // [rpn_selected]: those of a level from its first_selected on, best first
  ScoreKey<T>* keys;  // [rpn_selected]: of their scores
  BestLogits<Element> best;
  KeptArrays<T> kept;
  size_t bytes;

  static ImageMemory carve(const RpnParams& p, void* base) {
    const int64_t n = rpn_selected(p);
    Workspace w(base);
    ImageMemory m;
    m.boxes = w.take<Box<T>>(n);
    m.keys = w.take<ScoreKey<T>>(n);
    m.best = BestLogits<Element>(p, w);
    m.kept = KeptArrays<T>::carve(w, n, n + p.level_count * kPadding);
    m.bytes = w.used();
    return m;
  }
};

inline constexpr int kChunk = 64;

// Decodes candidates of one level; the arithmetic is a loop over arrays, which vectorises.
template <class Element>
void decode_chunk(const RpnParams& p, const RpnLevel& level, int64_t image,
                  const typename BestLogits<Element>::Item* items, int count,
                  Box<typename Compute<Element>::type>* out) {
  using T = typename Compute<Element>::type;
  T a[4][kChunk] = {}, d[4][kChunk] = {}, b[4][kChunk];
  for (int i = 0; i < count; ++i) {
    const RpnPlace at = rpn_place(level, items[i].index);
    const Box<T> anchor = rpn_anchor<Element>(p, level, image, items[i].index, at);
    const Deltas<T> deltas = rpn_deltas<Element>(level, image, at);
    a[0][i] = anchor.x1, a[1][i] = anchor.y1, a[2][i] = anchor.x2, a[3][i] = anchor.y2;
    d[0][i] = deltas.x, d[1][i] = deltas.y, d[2][i] = deltas.w, d[3][i] = deltas.h;
  }
  const T height = T(p.image_sizes[2 * image]), width = T(p.image_sizes[2 * image + 1]);
  for (int i = 0; i < kChunk; ++i) {
    const Box<T> box = rpn_box(Box<T>{a[0][i], a[1][i], a[2][i], a[3][i]},
                               Deltas<T>{d[0][i], d[1][i], d[2][i], d[3][i]}, height, width);
    b[0][i] = box.x1, b[1][i] = box.y1, b[2][i] = box.x2, b[3][i] = box.y2;
  }
  for (int i = 0; i < count; ++i) out[i] = {b[0][i], b[1][i], b[2][i], b[3][i]};
}

// Scores the candidates and puts them in the scores' order, which is the logits' but for rounding.
template <class Item>
Item* order_by_score(Item* items, Item* scratch, int64_t n) {
  for (int64_t i = 0; i < n; ++i) items[i].key = descending_key(sigmoid(score_of_key(items[i].key)));
  return radix_sort(items, scratch, n);
}

// Writes the level's best candidates that pass the filter, best first; returns how many.
template <class Element>
int64_t select_level(const RpnParams& p, ImageMemory<Element>& m, const RpnLevel& level, int64_t image) {
  using T = typename Compute<Element>::type;
  if (level.selected == 0) return 0;
  auto* items = m.best.find(level, image);
  items = order_by_score(items, m.best.other(items), level.selected);
  Box<T>* const boxes = m.boxes + level.first_selected;
  ScoreKey<T>* const keys = m.keys + level.first_selected;
  const T min_size = T(p.min_size), score_threshold = T(p.score_threshold);
  int64_t count = 0;
  for (int64_t i = 0; i < level.selected; i += kChunk) {
    Box<T> decoded[kChunk];
    const int chunk = int(smaller<int64_t>(kChunk, level.selected - i));
    decode_chunk<Element>(p, level, image, items + i, chunk, decoded);
    for (int j = 0; j < chunk; ++j) {
      boxes[count] = decoded[j];
      keys[count] = items[i + j].key;
      count += rpn_keeps(RpnCandidate<T>{boxes[count], score_of_key(keys[count])}, min_size, score_threshold);
    }
  }
  return count;
}

// One level's candidates on their way through suppression.
template <class T>
struct LevelQueue {
  const Box<T>* boxes;
  const ScoreKey<T>* keys;
  int64_t next, count;
  KeptBoxes<T> kept;
};

// The level whose next candidate has the best score, among equals the lowest; -1 where none is left.
template <class T>
int64_t best_level(const LevelQueue<T>* queues, int64_t levels) {
  int64_t best = -1;
  for (int64_t l = 0; l < levels; ++l) {
    const LevelQueue<T>& q = queues[l];
    if (q.next < q.count && (best < 0 || q.keys[q.next] < queues[best].keys[queues[best].next])) best = l;
  }
  return best;
}

template <class Element>
void fill_queues(const RpnParams& p, ImageMemory<Element>& m, int64_t image,
                 LevelQueue<typename Compute<Element>::type>* queues) {
  using T = typename Compute<Element>::type;
  for (int64_t l = 0; l < p.level_count; ++l) {
    const int64_t first = p.levels[l].first_selected;
    LevelQueue<T>& q = queues[l];
    q.boxes = m.boxes + first;
    q.keys = m.keys + first;
    q.next = 0;
    q.count = select_level(p, m, p.levels[l], image);
    q.kept = KeptBoxes<T>(m.kept.slice(first, first + l * kPadding), q.boxes, q.count,
                          smaller(q.count, p.post_nms_top_n), p.nms_threshold);
  }
}

template <class Element>
void run_image(const RpnParams& p, ImageMemory<Element>& m, int64_t image) {
  using T = typename Compute<Element>::type;
  LevelQueue<T> queues[kRpnMostLevels];
  fill_queues(p, m, image, queues);
  auto* boxes = static_cast<Element*>(p.boxes) + image * p.post_nms_top_n * 4;
  auto* scores = static_cast<Element*>(p.scores) + image * p.post_nms_top_n;
  int64_t count = 0;
  while (count < p.post_nms_top_n) {
    const int64_t level = best_level(queues, p.level_count);
    if (level < 0) break;
    LevelQueue<T>& q = queues[level];
    const int64_t candidate = q.next++;
    const Box<T> box = q.boxes[candidate];
    const T box_area = area(box);
    q.kept.prefetch(candidate);
    if (q.kept.suppresses(box, box_area, candidate)) continue;
    q.kept.add(box, box_area, candidate);
    narrow(box.x1, boxes[4 * count]);
    narrow(box.y1, boxes[4 * count + 1]);
    narrow(box.x2, boxes[4 * count + 2]);
    narrow(box.y2, boxes[4 * count + 3]);
    narrow(score_of_key(q.keys[candidate]), scores[count++]);
  }
  p.counts[image] = count;
  for (int64_t i = count; i < p.post_nms_top_n; ++i) {
    boxes[4 * i] = boxes[4 * i + 1] = boxes[4 * i + 2] = boxes[4 * i + 3] = Element{};
    scores[i] = Element{};
  }
}

template <class Element>
size_t workspace_bytes(const RpnParams& p) {
  return ImageMemory<Element>::carve(p, nullptr).bytes;
}

template <class Element>
void run_images(const RpnParams& p, void* workspace, int64_t begin, int64_t end) {
  auto m = ImageMemory<Element>::carve(p, workspace);
  for (int64_t image = begin; image < end; ++image) run_image(p, m, image);
}

}  // namespace

size_t rpn_workspace_bytes(const RpnParams& p) { return GCV_BY_DTYPE(p.dtype, workspace_bytes, p); }

void rpn_proposals_cpu(const RpnParams& p, void* workspace, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, run_images, p, workspace, begin, end);
}

}  // namespace gcv::GCV_ISA
