#pragma once
#include <algorithm>

#include "infer/served_model.h"
#include "tests/support/testing.h"

namespace hadal {

// A model for tests of what is around models. Every token depends on what the cache holds, so that
// a page in the wrong place is a wrong text.
class StandInModel final : public ServedModel {
 public:
  static constexpr int32_t kVocabulary = 50;
  static constexpr int64_t kWindow = 70;  // more than a page

  static int32_t short_rule(int32_t newest) { return (newest * 7 + 3) % kVocabulary; }
  // After an even token by that token alone, else by the last 70.
  static int32_t next_of(int32_t newest, int64_t sum) {
    return newest % 2 == 0 ? short_rule(newest)
                           : static_cast<int32_t>((sum * 31 + 5) % kVocabulary);
  }

  StandInModel() {
    config_.vocab_size = kVocabulary;
    config_.hidden_size = 1;
    config_.max_position_embeddings = 512;
  }
  const ModelConfig& config() const override { return config_; }
  std::vector<CacheSpec> cache_specs() const override { return {{1}, {1}}; }
  bool drafts() const override { return true; }
  Precision prompt_precision() const override { return Precision::kFp32; }

  void step(Ids ids, StepPass& pass, Out2 h) override {
    for (const StepSpan& s : pass.spans) {
      for (int64_t i = s.begin; i < s.end; ++i) {
        const int64_t position = s.position + i - s.begin;
        write(pass, 0, s, position, ids.data()[i]);
        const int64_t first = std::max<int64_t>(position + 1 - kWindow, 0);
        const Out2 rows = window_.view().rows(0, position + 1 - first);
        pass.cache.read(s.sequence, 0, first, rows);
        int64_t sum = 0;
        for (int64_t r = 0; r < rows.dim(0); ++r) sum += static_cast<int64_t>(*rows.row(r));
        h.row(i)[0] = static_cast<float>(next_of(ids.data()[i], sum));
      }
    }
  }
  void mtp_step(Ids next_ids, In2, StepPass& pass, Out2 h) override {
    for (const StepSpan& s : pass.spans) {
      for (int64_t i = s.begin; i < s.end; ++i) {
        write(pass, 1, s, s.position + i - s.begin, next_ids.data()[i]);
        h.row(i)[0] = static_cast<float>(short_rule(next_ids.data()[i]));
      }
    }
  }
  void head(In2 h, const StepPass&, Out2 logits) override {
    for (int64_t i = 0; i < h.dim(0); ++i) {
      std::fill_n(logits.row(i), kVocabulary, 0.0f);
      logits.row(i)[static_cast<int64_t>(h.row(i)[0])] = 1;
    }
  }

 private:
  static void write(StepPass& pass, int64_t layer, const StepSpan& s, int64_t position,
                    int32_t id) {
    const float value = static_cast<float>(id);
    pass.cache.write(s.sequence, layer, position, In2(&value, {1, 1}));
  }
  ModelConfig config_;
  Matrix window_{{kWindow, 1}};
};

}  // namespace hadal
