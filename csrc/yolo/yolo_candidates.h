// The boxes of an image whose score is greater than the threshold, found in one pass over the classes'
// planes. Most cells show nothing: whole vectors of them are passed over. Only *_cpu.cpp files include this.
#pragma once

#include <limits>

#include "common/float_bits.h"
#include "common/workspace.h"
#include "nms/score_sort.h"
#include "yolo/yolo_lanes.h"

namespace gcv {
namespace {

inline constexpr int kScan = 8 * kLane;  // neighbouring cells at most that are looked at together

// Neighbouring cells of a level whose boxes, of one anchor, may be candidates.
struct CellRun {
  int32_t level, anchor, cell, count;
};

// No output below this has a sigmoid greater than the threshold. The margin covers all
// rounding.
template <class T>
T least_output(double score_threshold) {
  const double least = score_threshold * (1 - 2e-6);
  if (!(least > 1e-30)) return -std::numeric_limits<T>::infinity();
  if (least >= 1) return std::numeric_limits<T>::infinity();
  return T(__builtin_log(least / (1 - least)) - 1e-6);
}

template <class T>
struct IndexOf {
  using type = int32_t;
};
template <>
struct IndexOf<double> {
  using type = int64_t;
};

template <class Element>
class Candidates {
  using T = typename Compute<Element>::type;
  using Index = typename IndexOf<T>::type;

 public:
  using Item = KeyIndex<ScoreKey<T>>;

  Candidates() = default;

  Candidates(const YoloDetectParams& p, Workspace& w) : p_(&p) {
    const YoloMaps& m = p.maps;
    const int64_t most = m.boxes * (p.multi_label ? m.classes : 1);
    items_ = w.take<Item>(most);
    scratch_ = w.take<Item>(most);
    runs_ = w.take<CellRun>(m.boxes / kNear + m.level_count * m.boxes_per_cell);
    const bool confidence = yolo_has_confidence(m.version), softmax = m.version == YoloVersion::v2;
    confidence_ = w.take<T>(confidence ? m.boxes : 0);
    most_ = w.take<T>(softmax ? m.boxes : 0);
    total_ = w.take<T>(softmax ? m.boxes : 0);
  }

  // A score that as many candidates exceed, most likely, as the detections come from; at least the threshold.
  template <YoloVersion kVersion>
  T likely_threshold(int64_t image) {
    const T threshold = floor_to<T>(p_->score_threshold);
    const int64_t all = p_->maps.boxes * p_->maps.classes;
    const int64_t enough = kLikelyCandidates * p_->max_detections;
    if (!p_->multi_label || kVersion == YoloVersion::v2 || all < 16 * kSample || enough > all / 4)
      return threshold;
    for (int i = 0; i < kSample; i += kLane) sample_scores<kVersion>(image, i, all);
    const Item* sorted = radix_sort(items_, scratch_, kSample);
    const T score = score_of_key(sorted[kSample * enough / all].key);
    return score > threshold ? score : threshold;
  }

  // Those whose score is greater than `above` and not greater than `upto`; returns how many. An item's index
  // is class * boxes + box; they come in the order that equal scores have.
  template <YoloVersion kVersion>
  int64_t find(int64_t image, T above, T upto) {
    image_ = image;
    above_ = above;
    upto_ = upto;
    least_ = least_output<T>(double(above));
    find_runs<kVersion>();
    found_ = 0;
    if (kVersion == YoloVersion::v2) {
      for (int64_t r = 0; r < run_count_; ++r) read_softmax(runs_[r]);
    }
    if (p_->multi_label) {
      for (int64_t c = 0; c < p_->maps.classes; ++c) {
        for (int64_t r = 0; r < run_count_; ++r) take_class<kVersion>(runs_[r], c);
      }
    } else {
      for (int64_t r = 0; r < run_count_; ++r) take_best<kVersion>(runs_[r]);
    }
    return found_;
  }

  Item* items() const { return items_; }
  Item* scratch() const { return scratch_; }

 private:
  static constexpr int kSample = 2048;
  // Candidates for each detection, where many suppress one another: more than enough, as a rule.
  static constexpr int64_t kLikelyCandidates = 32;

  // Of boxes and classes as if by chance. NaN counts as no score.
  template <YoloVersion kVersion>
  void sample_scores(int64_t image, int first, int64_t all) {
    const YoloMaps& m = p_->maps;
    T confidence[kLane], output[kLane];
    for (int i = 0; i < kLane; ++i) {
      const int64_t number = int64_t(uint64_t(first + i) * 2654435761u % uint64_t(all));
      const YoloPlace at = yolo_place(m, number % m.boxes);
      const int64_t cell = at.row * m.levels[at.level].width + at.column;
      const CellReader<Element> cells(m.levels[at.level], image);
      output[i] = widen(*cells.at(yolo_first_class(m, at.anchor) + number / m.boxes, cell));
      confidence[i] =
          yolo_has_confidence(kVersion) ? widen(*cells.at(yolo_first_channel(m, at.anchor) + 4, cell)) : T(0);
    }
    for (int i = 0; i < kLane; ++i) {
      const T score = yolo_score(kVersion, yolo_confidence(kVersion, confidence[i]), output[i]);
      const T lowest = -std::numeric_limits<T>::infinity();
      items_[first + i] = {descending_key(score == score ? score : lowest), 0};
    }
  }

  CellReader<Element> cells_of(const CellRun& run) const {
    return CellReader<Element>(p_->maps.levels[run.level], image_);
  }

  int64_t box_of(const CellRun& run) const {
    const YoloLevel& level = p_->maps.levels[run.level];
    return level.first_box + run.anchor * yolo_cells(level) + run.cell;
  }

  template <YoloVersion kVersion>
  void find_runs() {
    const YoloMaps& m = p_->maps;
    run_count_ = 0;
    for (int l = 0; l < m.level_count; ++l) {
      const int64_t cells = yolo_cells(m.levels[l]);
      for (int anchor = 0; anchor < m.boxes_per_cell; ++anchor) {
        for (int64_t cell = 0; cell < cells; cell += kScan) {
          const CellRun run{l, anchor, int32_t(cell), int32_t(smaller<int64_t>(kScan, cells - cell))};
          if (yolo_has_confidence(kVersion)) {
            add_confident_runs<kVersion>(run);
          } else {
            runs_[run_count_++] = run;
          }
        }
      }
    }
  }

  // No score is greater than its box's confidence, but with v1, whose classes may be any numbers.
  template <YoloVersion kVersion>
  void add_confident_runs(const CellRun& whole) {
    T buffer[kScan], confidence[kScan];
    const T* output =
        cells_of(whole).read(yolo_first_channel(p_->maps, whole.anchor) + 4, whole.cell, whole.count, buffer);
    for (int i = 0; i < kScan; ++i) confidence[i] = yolo_confidence(kVersion, output[i]);
    memcpy(confidence_ + box_of(whole), confidence, size_t(whole.count) * sizeof(T));
    if (kVersion == YoloVersion::v1) {
      runs_[run_count_++] = whole;
      return;
    }
    bool extends = false;
    for (int first = 0; first < whole.count; first += kNear) {
      const int count = smaller(kNear, whole.count - first);
      bool some = false;
      for (int i = 0; i < count; ++i) some |= confidence[first + i] > above_;
      if (some && extends) {
        runs_[run_count_ - 1].count += count;
      } else if (some) {
        runs_[run_count_++] = {whole.level, whole.anchor, whole.cell + first, count};
      }
      extends = some;
    }
  }

  void read_softmax(const CellRun& run) {
    T buffer[kScan], most[kScan], total[kScan] = {};
    const CellReader<Element> cells = cells_of(run);
    const int64_t first_class = yolo_first_class(p_->maps, run.anchor);
    for (T& t : most) t = -std::numeric_limits<T>::infinity();
    for (int64_t c = 0; c < p_->maps.classes; ++c) {
      const T* output = cells.peek(first_class + c, run.cell, run.count, buffer);
      for (int i = 0; i < run.count; ++i) most[i] = larger(most[i], yolo_cleaned(output[i]));
    }
    for (int64_t c = 0; c < p_->maps.classes; ++c) {
      const T* output = cells.peek(first_class + c, run.cell, run.count, buffer);
      for (int i = 0; i < run.count; ++i)
        total[i] = exact::add(total[i], exponential(exact::sub(yolo_cleaned(output[i]), most[i])));
    }
    memcpy(most_ + box_of(run), most, size_t(run.count) * sizeof(T));
    memcpy(total_ + box_of(run), total, size_t(run.count) * sizeof(T));
  }

  // Adds those of up to kLane neighbouring boxes whose score is as asked for.
  template <YoloVersion kVersion, class Class>
  void take_lanes(const T* output, int64_t box, int count, const Class& class_of) {
    if (kVersion == YoloVersion::v8) {
      bool some = false;
      for (int i = 0; i < kLane; ++i) some |= output[i] >= least_;
      if (!some) return;
    }
    T confidence[kLane] = {}, most[kLane] = {}, total[kLane] = {}, scores[kLane];
    if (yolo_has_confidence(kVersion)) memcpy(confidence, confidence_ + box, size_t(count) * sizeof(T));
    if (kVersion == YoloVersion::v2) {
      memcpy(most, most_ + box, size_t(count) * sizeof(T));
      memcpy(total, total_ + box, size_t(count) * sizeof(T));
    }
    for (int i = 0; i < kLane; ++i) {
      scores[i] = kVersion == YoloVersion::v2
                      ? yolo_softmax_score(confidence[i], output[i], most[i], total[i])
                      : yolo_score(kVersion, confidence[i], output[i]);
    }
    ScoreKey<T> keys[kLane];
    for (int i = 0; i < kLane; ++i) keys[i] = descending_key(scores[i]);
    for (int i = 0; i < count; ++i) {
      if (!(scores[i] > above_) || scores[i] > upto_) continue;
      items_[found_++] = {keys[i], uint32_t(class_of(i) * p_->maps.boxes + box + i)};
    }
  }

  template <YoloVersion kVersion>
  void take_class(const CellRun& run, int64_t class_id) {
    T buffer[kScan], cleaned[kScan];
    const T* output =
        cells_of(run).peek(yolo_first_class(p_->maps, run.anchor) + class_id, run.cell, run.count, buffer);
    const int count = (run.count + kNear - 1) / kNear * kNear;
    for (int i = 0; i < count; ++i) cleaned[i] = yolo_cleaned(output[i]);
    for (int i = count; i % kLane != 0; ++i) cleaned[i] = -std::numeric_limits<T>::infinity();
    for (int i = 0; i < run.count; i += kLane) {
      take_lanes<kVersion>(cleaned + i, box_of(run) + i, smaller(kLane, run.count - i),
                           [&](int) { return class_id; });
    }
  }

  // The class of the largest output of each cell: NaN counts as -infinity, and the lowest wins a tie.
  template <YoloVersion kVersion>
  void take_best(const CellRun& run) {
    T buffer[kScan], best[kScan];
    Index best_class[kScan] = {};
    const CellReader<Element> cells = cells_of(run);
    const int64_t first_class = yolo_first_class(p_->maps, run.anchor);
    for (T& b : best) b = -std::numeric_limits<T>::infinity();
    const int count = (run.count + kNear - 1) / kNear * kNear;
    for (int64_t c = 0; c < p_->maps.classes; ++c) {
      const T* output = cells.peek(first_class + c, run.cell, run.count, buffer);
      for (int i = 0; i < count; ++i) {
        const bool better = output[i] > best[i];
        best[i] = better ? output[i] : best[i];
        best_class[i] = better ? Index(c) : best_class[i];
      }
    }
    for (int i = 0; i < run.count; i += kLane) {
      take_lanes<kVersion>(best + i, box_of(run) + i, smaller(kLane, run.count - i),
                           [&](int lane) { return int64_t(best_class[i + lane]); });
    }
  }

  const YoloDetectParams* p_;
  T above_, upto_, least_;
  int64_t image_ = 0, run_count_ = 0, found_ = 0;
  Item *items_, *scratch_;
  CellRun* runs_;
  T *confidence_, *most_, *total_;
};

}  // namespace
}  // namespace gcv
