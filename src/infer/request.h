#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "infer/sampler.h"

namespace hadal {

// How many tokens the MTP module drafts before the model verifies them.
struct Speculation {
  enum class Mode { kOff, kFixed, kAuto } mode = Mode::kAuto;
  int64_t draft = 1;  // kFixed: tokens a step; with one module, chained on its own output
};

enum class Finish {
  kEnd,        // the model wrote an end token
  kStopped,    // on_token returned false
  kLength,     // max_tokens, or the context is full
  kCancelled,  // by Engine::cancel
  kError,
};
const char* finish_name(Finish finish);

// A new token of one of the request's texts. The end token is not handed out.
struct NewToken {
  int64_t sample = 0;
  int32_t id = 0;
  const Logprobs* logprobs = nullptr;  // when asked for
};

struct SampleStats {
  int64_t prompt_tokens = 0, tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt, found in the prefix cache
  int64_t steps = 0;          // runs of the main model after the prompt
  int64_t drafted = 0, accepted = 0;
  int64_t preempted = 0;  // how often it gave its memory to others and began anew
  double wait_seconds = 0, prompt_seconds = 0, decode_seconds = 0;
  double acceptance() const { return drafted == 0 ? 0 : double(accepted) / double(drafted); }
};

struct SampleEnd {
  int64_t sample = 0;
  Finish finish = Finish::kLength;
  std::optional<Error> error;  // of kError
  SampleStats stats;
};

// What a caller wants written. The text is a pure function of model, prompt, sampling and the
// number of the sample: what else the engine does changes when it comes, never what it is.
struct Request {
  std::vector<int32_t> prompt = {};
  SamplingParams sampling = {};  // sample i draws with seed + i
  int64_t samples = 1;           // texts for this prompt
  int64_t max_tokens = 128;      // of each
  std::vector<int32_t> end_tokens = {};
  int64_t vocabulary = 0;  // ids the tokenizer knows; 0 = the model's
  Speculation speculation = {};
  int64_t logprobs = -1;         // of each new token, with so many of the likeliest; -1: none
  int64_t prompt_logprobs = -1;  // the same of the prompt's tokens from the second on

  std::string caller = {};  // whom the engine is fair between
  std::string salt = {};    // pages of prompts are shared among equal salts only

  // Called on the engine's thread, in order. false from on_token ends that text.
  std::function<bool(const NewToken&)> on_token = {};
  std::function<void(const std::vector<Logprobs>&)> on_prompt = {};  // of prompt_logprobs, once
  std::function<void(const SampleEnd&)> on_end = {};                 // once a sample, the last call
};

}  // namespace hadal
