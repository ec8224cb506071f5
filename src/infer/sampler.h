#pragma once
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/error.h"

namespace hadal {

struct LogitBias {
  int32_t id = 0;
  float bias = 0;  // -100 .. 100, added to the logit
};

// How the next token is drawn from its logits. The order is: penalties and biases, temperature,
// top-k, top-p, min-p.
struct SamplingParams {
  double temperature = 1;  // 0: the largest logit, ties to the lower id
  int64_t top_k = 0;       // keep the k likeliest; 0: all
  double top_p = 1;        // keep the likeliest whose sum first reaches p
  double min_p = 0;        // keep those at least min_p times as likely as the likeliest
  uint64_t seed = 0;
  // Of tokens generated before: once, and for each time. Of tokens of the prompt too: a positive
  // logit is divided by it, a negative one multiplied.
  double presence_penalty = 0;    // -2 .. 2
  double frequency_penalty = 0;   // -2 .. 2
  double repetition_penalty = 1;  // above 0, up to 10
  std::vector<LogitBias> logit_bias = {};

  bool penalises() const {
    return presence_penalty != 0 || frequency_penalty != 0 || repetition_penalty != 1;
  }
};

// Error{kUsage} names the parameter, its value and its range.
void check_sampling(const SamplingParams& params);

// How often each token was generated; 0 for one that only the prompt holds.
using TokenCounts = std::unordered_map<int32_t, int32_t>;

// Penalties and biases, in place. Biased ids beyond the logits are left out.
void adjust_logits(std::span<float> logits, const SamplingParams& params,
                   const TokenCounts& counts);

// The token at `position` of a text: a pure function of logits, params and position. Random numbers
// belong to (seed, position, token id): the token is the arg max of log p_i + g_i with g_i Gumbel
// noise, an exact draw from p. Two distributions sampled at the same position share their noise, so
// a draft drawn so from q agrees with the draw from p as often as the two are alike, and
// speculation by "verify and compare" gives the very tokens that plain sampling gives
// (docs/decisions). Only ids below `vocabulary` are drawn: models pad theirs beyond the
// tokenizer's. Error{kFormat} when no logit is finite or one is NaN.
int32_t sample_token(std::span<const float> logits, int64_t vocabulary,
                     const SamplingParams& params, int64_t position);

// Natural logarithms of probabilities under the model itself: before penalties, biases and
// temperature, over the ids below `vocabulary`.
struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;
};
struct Logprobs {
  TokenLogprob token;
  std::vector<TokenLogprob> top;  // the likeliest, ties to the lower id
};
// Error{kFormat} as sample_token.
Logprobs token_logprobs(std::span<const float> logits, int64_t vocabulary, int32_t token,
                        int64_t top);

}  // namespace hadal
