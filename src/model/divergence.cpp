#include "model/divergence.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/parallel.h"

namespace hadal {
namespace {

constexpr int64_t kLongestDefault = 512;

// log of the sum of e^x, and the largest x.
struct LogSum {
  double log, largest;
};
LogSum log_sum(std::span<const float> x) {
  const double largest = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (const float v : x) sum += std::exp(double{v} - largest);
  return {largest + std::log(sum), largest};
}

int64_t top(std::span<const float> x) {
  return std::max_element(x.begin(), x.end()) - x.begin();
}

// A prompt's rows read what they and those before them left in the cache.
void logits_through_cache(Transformer& model, Ids ids, DType dtype, Precision precision,
                          Out2 logits) {
  const int64_t rows = ids.dim(0);
  KvCache cache(model.cache_specs(), dtype);
  const StepSpan span{0, rows, cache.add_sequence(), 0};
  cache.extend(span.sequence, rows);
  std::vector<int32_t> positions(static_cast<size_t>(rows));
  std::iota(positions.begin(), positions.end(), 0);
  Arena scratch;
  StepPass pass{Path::kPrompt, cache, scratch, {positions.data(), {rows}}, {&span, 1}, precision};
  const Out2 h = scratch.floats(rows, model.config().hidden_size);
  model.step(ids, pass, h);
  model.head(h, pass, logits);
}

}  // namespace

double Divergence::mean() const {
  return kl.empty() ? 0 : std::accumulate(kl.begin(), kl.end(), 0.0) / double(kl.size());
}

double Divergence::percentile(double share) const {
  if (kl.empty()) return 0;
  std::vector<float> sorted = kl;
  const auto rank = static_cast<int64_t>(std::ceil(share * double(kl.size()))) - 1;
  const auto at = sorted.begin() + std::clamp<int64_t>(rank, 0, int64_t(kl.size()) - 1);
  std::nth_element(sorted.begin(), at, sorted.end());
  return *at;
}

double Divergence::top_agreement() const {
  return kl.empty() ? 1 : double(same_top) / double(kl.size());
}

double kl_divergence(std::span<const float> reference, std::span<const float> model) {
  const double p_log = log_sum(reference).log, q_log = log_sum(model).log;
  double kl = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double log_p = double{reference[i]} - p_log, log_q = double{model[i]} - q_log;
    const double p = std::exp(log_p);
    if (p > 0 || std::isnan(p)) kl += p * (log_p - log_q);
  }
  return kl;
}

void compare_document(Transformer& model, Transformer& reference, std::span<const int32_t> ids,
                      const DivergenceOptions& options, Divergence& divergence) {
  const ModelConfig &a = model.config(), &b = reference.config();
  HADAL_CHECK(a.vocab_size == b.vocab_size, kUsage, "the models have vocabularies of ",
              a.vocab_size, " and ", b.vocab_size, " tokens, expected the same");
  const int64_t most = std::min(a.max_position_embeddings, b.max_position_embeddings);
  const int64_t context = options.context == 0 ? std::min(most, kLongestDefault) : options.context;
  HADAL_CHECK(context <= most, kUsage, "a context of ", context, " tokens, the models have ", most);
  const auto length = static_cast<int64_t>(ids.size());
  const auto vocab = static_cast<size_t>(a.vocab_size);
  for (int64_t begin = 0; begin + 1 < length; begin += context) {
    const int64_t rows = std::min(context, length - 1 - begin);
    const Ids window(ids.data() + begin, {rows});
    const Tensor<float, 2> ours({rows, a.vocab_size}), theirs({rows, a.vocab_size});
    if (options.cache) {
      logits_through_cache(model, window, *options.cache, options.precision, ours);
    } else {
      model.logits(window, options.precision, ours);
    }
    reference.logits(window, options.precision, theirs);
    std::vector<float> kl(static_cast<size_t>(rows));
    std::vector<uint8_t> same(kl.size());
    parallel_for(rows, 1, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        const std::span<const float> p(theirs.row(r), vocab), q(ours.row(r), vocab);
        kl[static_cast<size_t>(r)] = static_cast<float>(kl_divergence(p, q));
        same[static_cast<size_t>(r)] = top(p) == top(q) ? 1 : 0;
      }
    });
    divergence.kl.insert(divergence.kl.end(), kl.begin(), kl.end());
    divergence.same_top += std::accumulate(same.begin(), same.end(), int64_t{0});
  }
}

}  // namespace hadal
