#include "infer/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/rng.h"

namespace hadal {
namespace {

constexpr size_t kMostBiases = 4096;

struct Candidate {
  int32_t id;
  double weight;  // exp((logit - largest) / temperature): at most 1
};

int32_t largest(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    HADAL_CHECK(!std::isnan(logits[i]), kFormat, "the logit of token ", i, " is NaN");
    if (logits[i] > logits[best]) best = i;
  }
  HADAL_CHECK(!logits.empty() && std::isfinite(logits[best]), kFormat,
              "no logit is finite: there is nothing to sample");
  return static_cast<int32_t>(best);
}

bool likelier(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
}

// Keeps what top-k, top-p and min-p leave.
void filter(std::vector<Candidate>& candidates, const SamplingParams& params) {
  if (params.top_k > 0 && params.top_k < static_cast<int64_t>(candidates.size())) {
    const auto end = candidates.begin() + params.top_k;
    std::nth_element(candidates.begin(), end - 1, candidates.end(), likelier);
    candidates.erase(end, candidates.end());
  }
  if (params.top_p < 1) {
    std::sort(candidates.begin(), candidates.end(), likelier);
    double total = 0, sum = 0;
    for (const Candidate& c : candidates) total += c.weight;
    size_t kept = 0;
    while (kept < candidates.size() && (kept == 0 || sum < params.top_p * total)) {
      sum += candidates[kept++].weight;
    }
    candidates.resize(kept);
  }
  if (params.min_p > 0) {
    std::erase_if(candidates, [&](const Candidate& c) { return c.weight < params.min_p; });
  }
}

// A uniform number in (0, 1) that belongs to this seed, position and token.
double noise(uint64_t seed, int64_t position, int32_t id) {
  const auto block = philox(seed, static_cast<uint64_t>(position), static_cast<uint64_t>(id) / 4);
  return (static_cast<double>(block[static_cast<size_t>(id % 4)]) + 0.5) * 0x1p-32;
}

}  // namespace

void check_sampling(const SamplingParams& p) {
  HADAL_CHECK(p.temperature >= 0 && p.temperature <= 100, kUsage, "temperature ", p.temperature,
              " is not between 0 and 100");
  HADAL_CHECK(p.top_k >= 0, kUsage, "top-k ", p.top_k, " is negative");
  HADAL_CHECK(p.top_p > 0 && p.top_p <= 1, kUsage, "top-p ", p.top_p,
              " is not above 0 and up to 1");
  HADAL_CHECK(p.min_p >= 0 && p.min_p <= 1, kUsage, "min-p ", p.min_p, " is not between 0 and 1");
  const auto check_penalty = [](const char* name, double value) {
    HADAL_CHECK(value >= -2 && value <= 2, kUsage, name, " penalty ", value,
                " is not between -2 and 2");
  };
  check_penalty("presence", p.presence_penalty);
  check_penalty("frequency", p.frequency_penalty);
  HADAL_CHECK(p.repetition_penalty > 0 && p.repetition_penalty <= 10, kUsage, "repetition penalty ",
              p.repetition_penalty, " is not above 0 and up to 10");
  HADAL_CHECK(p.logit_bias.size() <= kMostBiases, kUsage, p.logit_bias.size(),
              " logit biases; at most ", kMostBiases, " are taken");
  for (const LogitBias& b : p.logit_bias) {
    HADAL_CHECK(b.bias >= -100 && b.bias <= 100, kUsage, "logit bias ", b.bias, " of token ", b.id,
                " is not between -100 and 100");
    HADAL_CHECK(b.id >= 0, kUsage, "logit bias of token ", b.id, ", which is negative");
  }
}

void adjust_logits(std::span<float> logits, const SamplingParams& params,
                   const TokenCounts& counts) {
  const auto size = static_cast<int64_t>(logits.size());
  for (const auto& [id, count] : counts) {
    if (id >= size) continue;
    float& logit = logits[static_cast<size_t>(id)];
    double x = logit;
    x = x > 0 ? x / params.repetition_penalty : x * params.repetition_penalty;
    x -= params.frequency_penalty * count + (count > 0 ? params.presence_penalty : 0);
    logit = static_cast<float>(x);
  }
  for (const LogitBias& b : params.logit_bias) {
    if (b.id < size) logits[static_cast<size_t>(b.id)] += b.bias;
  }
}

int32_t sample_token(std::span<const float> logits, int64_t vocabulary,
                     const SamplingParams& params, int64_t position) {
  logits = logits.first(std::min(logits.size(), static_cast<size_t>(vocabulary)));
  const int32_t best = largest(logits);
  if (params.temperature == 0) return best;

  const double top = logits[static_cast<size_t>(best)];
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    const double weight = std::exp((logits[i] - top) / params.temperature);
    if (weight > 0) candidates.push_back({static_cast<int32_t>(i), weight});
  }
  filter(candidates, params);

  // arg max of log w + Gumbel noise = arg min of Exp(1) noise / w.
  int32_t chosen = best;
  double shortest = std::numeric_limits<double>::infinity();
  for (const Candidate& c : candidates) {
    const double arrival = -std::log(noise(params.seed, position, c.id)) / c.weight;
    if (arrival < shortest || (arrival == shortest && c.id < chosen)) {
      shortest = arrival;
      chosen = c.id;
    }
  }
  return chosen;
}

Logprobs token_logprobs(std::span<const float> logits, int64_t vocabulary, int32_t token,
                        int64_t top) {
  logits = logits.first(std::min(logits.size(), static_cast<size_t>(vocabulary)));
  const double most = logits[static_cast<size_t>(largest(logits))];
  double sum = 0;
  for (float x : logits) sum += std::exp(x - most);
  const double total = most + std::log(sum);
  const auto of = [&](int32_t id) -> TokenLogprob {
    const auto i = static_cast<size_t>(id);
    return {id, i < logits.size() ? static_cast<float>(logits[i] - total) : -INFINITY};
  };
  Logprobs out{of(token), {}};
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto end = ids.begin() + std::min(top, static_cast<int64_t>(ids.size()));
  std::partial_sort(ids.begin(), end, ids.end(), [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  for (auto id = ids.begin(); id != end; ++id) out.top.push_back(of(*id));
  return out;
}

}  // namespace hadal
