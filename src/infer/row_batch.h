#pragma once
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "infer/request.h"
#include "infer/served_model.h"

namespace hadal {

// A text while it is written. Its tokens are numbered from the prompt's first. The main model has
// run tokens 0 .. done-1; with all but the newest run, the text is ready for a step. Row i of the
// MTP module joins h_i and token i+1; rows 0 .. mtp_done-1 have run, and the h of those that have
// not are kept in `pending`.
struct Text {
  const Request* request = nullptr;
  SamplingParams sampling;  // the request's, with the sample's seed
  bool drafting = false;    // may be given drafts: the MTP module reads along
  bool wants_prompt_logprobs = false;
  int64_t prompt = 0;  // tokens of it
  std::vector<int32_t> tokens;
  TokenCounts counts;  // kept when there are penalties

  KvCache::Sequence sequence = -1;  // while it has a place in the cache
  int64_t done = 0, mtp_done = 0;
  std::vector<float> last_mtp, pending;  // [hidden], [rows, hidden]

  int64_t drafts = 0;               // in the next step
  std::vector<Logprobs> logprobs;   // of the tokens of the last step
  std::vector<Logprobs> of_prompt;  // of tokens 1 .. done
  std::optional<Error> error;       // its logits could not be sampled
  int64_t drafted = 0, accepted = 0, steps = 0;

  int64_t size() const { return int64_t(tokens.size()); }
  bool in_prompt() const { return done < prompt; }
  bool in_replay() const { return !in_prompt() && done + 1 < size(); }
};

// So many of a text's tokens, from `first` on.
struct TextRows {
  Text* text = nullptr;
  int64_t first = 0, count = 0;
};

// Runs many texts' rows through the model in one call and draws their tokens. What a text gets
// depends on itself alone. If the model throws, no text has changed but for its drafts: the caller
// may run them again one by one. Pages must be free.
class RowBatch {
 public:
  // draft_vocabulary: as EngineOptions has it.
  RowBatch(ServedModel& model, KvCache& cache, Precision precision, int64_t draft_vocabulary)
      : model_(model), cache_(cache), precision_(precision), draft_vocabulary_(draft_vocabulary) {}

  // The next `count` tokens of each prompt. A prompt that is through gets its first new token,
  // unless that is known from before.
  void run_prompt(std::span<const TextRows> parts);
  // One step of each text in `ready`: its newest token and text.drafts drafts; 1 .. drafts + 1 new
  // tokens. Beside them, generated tokens of others again.
  void run_generated(std::span<Text* const> ready, std::span<const TextRows> replay);
  // Lets the MTP modules of these texts read what they have not read yet.
  void catch_up(std::span<Text* const> texts);
  int64_t pending_rows(const Text& text) const;

 private:
  template <class Fn>
  void with_pass(Path path, std::span<const TextRows> parts, Fn&& fn);
  void reserve(const Text& text, int64_t length);
  void mtp_of_prompt(std::span<const TextRows> parts, In2 h);
  void logprobs_of_prompt(const TextRows& part, In2 h);
  std::vector<std::vector<int32_t>> make_drafts(std::span<Text* const> ready);
  void chain(std::span<const TextRows> rows, const std::vector<int32_t>& newest);
  std::vector<int32_t> guess(std::span<const TextRows> rows);
  void draw_first(std::span<Text* const> texts, In2 last_h);
  void accept(Text& text, const std::vector<int32_t>& ids, In2 h, Out2 logits);
  int32_t draw(const Text& text, Out2 logits, int64_t position) const;
  void append(Text& text, Out2 logits);
  void remember(Text& text, In2 h) const;
  int64_t hidden() const { return model_.config().hidden_size; }
  int64_t vocabulary(const Text& text) const;

  ServedModel& model_;
  KvCache& cache_;
  Precision precision_;
  int64_t draft_vocabulary_;
  Arena scratch_;
};

}  // namespace hadal
