#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "infer/sampler.h"
#include "model/transformer.h"

namespace hadal {

// How many tokens the MTP module drafts before the model verifies them.
struct Speculation {
  enum class Mode { kOff, kFixed, kAuto } mode = Mode::kAuto;
  int64_t draft = 1;  // kFixed: tokens a step; with one module, chained on its own output
};

struct GenerateOptions {
  SamplingParams sampling = {};
  int64_t max_tokens = 128;
  std::vector<int32_t> end_tokens = {};
  int64_t vocabulary = 0;  // ids the tokenizer knows; 0 = the model's
  Speculation speculation = {};
  DType cache_dtype = DType::kBF16;
  Precision precision = Precision::kFp32;  // of the prompt's GEMMs
  int64_t prompt_chunk = 512;              // tokens a prefill call
};

struct GenerateStats {
  int64_t prompt_tokens = 0, tokens = 0;
  int64_t steps = 0;  // runs of the main model after the prompt
  int64_t drafted = 0, accepted = 0;
  double prompt_seconds = 0, decode_seconds = 0;
  bool ended = false;  // by an end token
  double acceptance() const { return drafted == 0 ? 0 : double(accepted) / double(drafted); }
};

// Writes text for one prompt at a time. Tokens are a pure function of model, prompt and sampling:
// with and without speculation the same (each token is drawn from the main model's own logits with
// the noise of its position; a draft only decides how many are computed together).
class Generator {
 public:
  explicit Generator(Transformer& model) : model_(model) {}

  // Calls on_token for each new token, the end token not included; false from it ends the text.
  // Error{kUsage} for an empty prompt, an id out of range or a prompt that fills the context.
  GenerateStats generate(std::span<const int32_t> prompt, const GenerateOptions& options,
                         const std::function<bool(int32_t)>& on_token);

 private:
  struct Run;  // the state of one text

  Transformer& model_;
  Arena scratch_;
};

}  // namespace hadal
