#include "train/score.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "train/data.h"

namespace hadal {
namespace {

constexpr int64_t kLongestDefault = 2048;

struct Window {
  int64_t context, stride;
};

Window window_of(const Transformer& model, const ScoreOptions& options) {
  const int64_t most = model.config().max_position_embeddings;
  const int64_t context = options.context == 0 ? std::min(most, kLongestDefault) : options.context;
  const int64_t stride = options.stride == 0 ? std::max<int64_t>(context / 2, 1) : options.stride;
  HADAL_CHECK(context <= most, kUsage, "a context of ", context, " tokens, the model has ", most);
  HADAL_CHECK(stride <= context, kUsage, "a stride of ", stride,
              " leaves out tokens of windows of ", context);
  return {context, stride};
}

}  // namespace

double Score::bits_per_byte() const {
  return bytes == 0 ? 0 : nats / std::numbers::ln2 / static_cast<double>(bytes);
}

double Score::perplexity() const {
  return tokens == 0 ? 1 : std::exp(nats / static_cast<double>(tokens));
}

void score_document(Transformer& model, std::span<const int32_t> ids, const ScoreOptions& options,
                    Score& score) {
  const Window window = window_of(model, options);
  const auto length = static_cast<int64_t>(ids.size());
  TrainOptions pass;
  pass.precision = options.precision;
  pass.mtp = false;
  ++score.documents;
  int64_t scored = 1;  // tokens before this one have counted; the first cannot
  for (int64_t begin = 0; scored < length; begin += window.stride) {
    const int64_t end = std::min(begin + window.context, length - 1);  // inputs [begin, end)
    Batch batch{1, end - begin, {}, {}, {}, {}};
    for (int64_t t = begin; t < end; ++t) {
      batch.ids.push_back(ids[static_cast<size_t>(t)]);
      batch.targets.push_back(t + 1 >= scored ? ids[static_cast<size_t>(t + 1)] : kIgnored);
    }
    const CrossEntropy sum = model.evaluate(batch, pass).main;
    score.nats += sum.loss_sum;
    score.tokens += sum.count;
    scored = end + 1;
  }
}

Score score_file(Transformer& model, const Tokenizer& tokenizer, const fs::path& file,
                 const ScoreOptions& options) {
  Score score;
  const auto prefix = tokenizer.prefix_ids();
  read_documents(file, [&](std::string_view text) {
    std::vector<int32_t> ids(prefix.begin(), prefix.end());
    const std::vector<int32_t> body = tokenizer.encode(text, {.special = false});
    ids.insert(ids.end(), body.begin(), body.end());
    for (size_t i = 1; i < ids.size(); ++i) {
      score.bytes += static_cast<int64_t>(tokenizer.token_bytes(ids[i]).size());
    }
    score_document(model, ids, options, score);
  });
  return score;
}

}  // namespace hadal
