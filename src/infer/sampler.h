#pragma once
#include <cstdint>
#include <span>

#include "core/error.h"

namespace hadal {

// How the next token is drawn from its logits. The order is: temperature, top-k, top-p, min-p.
struct SamplingParams {
  double temperature = 1;  // 0: the largest logit, ties to the lower id
  int64_t top_k = 0;       // keep the k likeliest; 0: all
  double top_p = 1;        // keep the likeliest whose sum first reaches p
  double min_p = 0;        // keep those at least min_p times as likely as the likeliest
  uint64_t seed = 0;
};

// Error{kUsage} names the parameter, its value and its range.
void check_sampling(const SamplingParams& params);

// The token at `position` of a text: a pure function of logits, params and position. Random numbers
// belong to (seed, position, token id): the token is the arg max of log p_i + g_i with g_i Gumbel
// noise, an exact draw from p. Two distributions sampled at the same position share their noise, so
// a draft drawn so from q agrees with the draw from p as often as the two are alike, and
// speculation by "verify and compare" gives the very tokens that plain sampling gives
// (docs/decisions). Only ids below `vocabulary` are drawn: models pad theirs beyond the
// tokenizer's. Error{kFormat} when no logit is finite or one is NaN.
int32_t sample_token(std::span<const float> logits, int64_t vocabulary,
                     const SamplingParams& params, int64_t position);

}  // namespace hadal
