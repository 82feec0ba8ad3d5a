// Detections on the CPU: the candidates of an image, best score first, are decoded a few at a time and
// offered to those kept so far, which ends with the last detection that is asked for.
#include "yolo/yolo_candidates.h"
#include "yolo/yolo_kept.h"

namespace gcv::GCV_ISA {
namespace {

template <class Element>
struct ImageMemory {
  using T = typename Compute<Element>::type;
  Candidates<Element> candidates;
  KeptByClass<T> kept;
  size_t bytes;

  static ImageMemory carve(const YoloDetectParams& p, void* base) {
    Workspace w(base);
    ImageMemory m;
    m.candidates = Candidates<Element>(p, w);
    const int64_t candidates = p.maps.boxes * (p.multi_label ? p.maps.classes : 1);
    m.kept = KeptByClass<T>(w, smaller(p.max_detections, smaller(p.max_candidates, candidates)),
                            p.class_agnostic ? 1 : p.maps.classes, p.iou_threshold);
    m.bytes = w.used();
    return m;
  }
};

// The channels of boxes that lie anywhere.
template <class Element>
struct ScatteredSource {
  using T = typename Compute<Element>::type;
  const Element* first[kLane];
  int64_t channel_stride[kLane];

  void read(int64_t channel, T (&to)[kLane]) const {
    for (int i = 0; i < kLane; ++i) to[i] = widen(first[i][channel * channel_stride[i]]);
  }
};

// Boxes of `count` candidates; the other lanes repeat the first.
template <YoloVersion kVersion, class Element, class Item>
void decode_candidates(const YoloMaps& m, int64_t image, const Item* items, int count,
                       LaneBoxes<typename Compute<Element>::type>& boxes) {
  using T = typename Compute<Element>::type;
  ScatteredSource<Element> source;
  LaneGeometry<T> geometry;
  for (int i = 0; i < kLane; ++i) {
    const YoloPlace at = yolo_place(m, items[i < count ? i : 0].index % uint32_t(m.boxes));
    const YoloLevel& level = m.levels[at.level];
    const int64_t* s = level.strides;
    source.first[i] = static_cast<const Element*>(level.map) + image * s[0] +
                      yolo_first_channel(m, at.anchor) * s[1] + at.row * s[2] + at.column * s[3];
    source.channel_stride[i] = s[1];
    geometry.set(i, m, level, at.anchor, at.row, at.column);
  }
  decode_lanes<kVersion>(m, source, geometry, boxes);
}

template <class Element>
struct ImageOutput {
  using T = typename Compute<Element>::type;
  const YoloDetectParams& p;
  int64_t image;
  int64_t count = 0;

  void put(Box<T> box, T score, int64_t label) {
    if (p.letterbox != nullptr) restore(box);
    const int64_t to = image * p.max_detections + count++;
    Element* boxes = static_cast<Element*>(p.out_boxes) + 4 * to;
    narrow(box.x1, boxes[0]);
    narrow(box.y1, boxes[1]);
    narrow(box.x2, boxes[2]);
    narrow(box.y2, boxes[3]);
    narrow(score, static_cast<Element*>(p.out_scores)[to]);
    p.labels[to] = label;
  }

  void finish() {
    p.counts[image] = count;
    for (; count < p.max_detections; ++count) {
      const int64_t to = image * p.max_detections + count;
      for (int side = 0; side < 4; ++side) static_cast<Element*>(p.out_boxes)[4 * to + side] = Element{};
      static_cast<Element*>(p.out_scores)[to] = Element{};
      p.labels[to] = -1;
    }
  }

 private:
  void restore(Box<T>& box) const {
    const float* letterbox = p.letterbox + image * p.letterbox_strides[0];
    T v[5];
    for (int i = 0; i < 5; ++i) v[i] = T(letterbox[i * p.letterbox_strides[1]]);
    box = {yolo_restore(box.x1, v[1], v[0], v[4]), yolo_restore(box.y1, v[2], v[0], v[3]),
           yolo_restore(box.x2, v[1], v[0], v[4]), yolo_restore(box.y2, v[2], v[0], v[3])};
  }
};

// Offers `count` candidates, best first, until enough are kept.
template <YoloVersion kVersion, class Element, class Sorted>
void offer(const YoloDetectParams& p, KeptByClass<typename Compute<Element>::type>& kept, Sorted& best_first,
           int64_t count, ImageOutput<Element>& out) {
  using T = typename Compute<Element>::type;
  for (int64_t first = 0; first < count && out.count < p.max_detections; first += kLane) {
    KeyIndex<ScoreKey<T>> items[kLane];
    const int lanes = int(smaller<int64_t>(kLane, count - first));
    for (int i = 0; i < lanes; ++i) items[i] = best_first.item(first + i);
    LaneBoxes<T> boxes;
    decode_candidates<kVersion, Element>(p.maps, out.image, items, lanes, boxes);
    for (int i = 0; i < lanes && out.count < p.max_detections; ++i) {
      const Box<T> box{boxes.side[0][i], boxes.side[1][i], boxes.side[2][i], boxes.side[3][i]};
      if (box.x1 != box.x1 || box.y1 != box.y1 || box.x2 != box.x2 || box.y2 != box.y2) continue;
      const int64_t label = items[i].index / uint32_t(p.maps.boxes), group = p.class_agnostic ? 0 : label;
      const T box_area = area(box);
      if (kept.suppresses(box, box_area, group)) continue;
      kept.add(box, box_area, group);
      out.put(box, score_of_key(items[i].key), label);
    }
  }
}

// First the candidates of scores so high that they likely suffice, then, if they do not, the others.
template <YoloVersion kVersion, class Element>
void run_image(const YoloDetectParams& p, ImageMemory<Element>& m, int64_t image) {
  using T = typename Compute<Element>::type;
  ImageOutput<Element> out{p, image};
  m.kept.clear();
  int64_t offered = 0;
  T above = m.candidates.template likely_threshold<kVersion>(image);
  T upto = std::numeric_limits<T>::infinity();
  for (;;) {
    const int64_t found = m.candidates.template find<kVersion>(image, above, upto);
    SortedOnDemand<ScoreKey<T>> best_first(m.candidates.items(), m.candidates.scratch(), found);
    const int64_t count = smaller(found, p.max_candidates - offered);
    offer<kVersion>(p, m.kept, best_first, count, out);
    offered += count;
    const T threshold = floor_to<T>(p.score_threshold);
    if (!(above > threshold) || out.count == p.max_detections || offered == p.max_candidates) break;
    upto = above;
    above = threshold;
  }
  out.finish();
}

template <class Element>
size_t workspace_bytes(const YoloDetectParams& p) {
  return ImageMemory<Element>::carve(p, nullptr).bytes;
}

template <class Element>
void run_images(const YoloDetectParams& p, void* workspace, int64_t begin, int64_t end) {
  auto m = ImageMemory<Element>::carve(p, workspace);
  with_version(p.maps.version, [&](auto version) {
    for (int64_t image = begin; image < end; ++image) run_image<decltype(version)::value>(p, m, image);
  });
}

}  // namespace

size_t yolo_detect_workspace_bytes(const YoloDetectParams& p) {
  return GCV_BY_DTYPE(p.maps.dtype, workspace_bytes, p);
}

void yolo_detect_cpu(const YoloDetectParams& p, void* workspace, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.maps.dtype, run_images, p, workspace, begin, end);
}

}  // namespace gcv::GCV_ISA
