#include "infer/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/parallel.h"
#include "infer/sampler.h"
#include "infer/scheduler.h"
#include "model/inspect.h"

namespace hadal {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kWarmSteps = 4;
constexpr int64_t kPrefills = 5;          // at most, and
constexpr double kPrefillSeconds = 10.0;  // no further one after this long

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

float random_weight(Rng& rng) {
  return 0.04f * (static_cast<float>(rng.uniform()) - 0.5f);
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// Texts of the same length, and calls of the model for all of them at once.
class Texts {
 public:
  Texts(Transformer& model, const ServingWork& work)
      : model_(model), work_(work), cache_(model.cache_specs(), work.cache_dtype) {
    const int64_t context = model.config().max_position_embeddings;
    HADAL_CHECK(work.depth >= 0 && work.tokens > 0 && work.depth + work.tokens <= context, kUsage,
                work.tokens, " tokens at depth ", work.depth,
                " do not fit the context of the model, ", context);
    for (int64_t i = 0; i < work.batch; ++i) {
      sequences_.push_back(cache_.add_sequence());
      cache_.extend(sequences_.back(), work.depth);
      fill_cache(cache_, sequences_.back(), work.depth);
    }
    drawn_.resize(sequences_.size());
  }

  void rewind() {
    for (KvCache::Sequence s : sequences_) cache_.truncate(s, work_.depth);
  }

  // The next `count` tokens of the texts [begin, end), and a draw of what follows. Tokens are no
  // draws but as different as can be: alike texts would all choose the same experts. Returns how
  // many were read.
  int64_t step(Path path, int64_t count, int64_t begin, int64_t end) {
    const Arena::Scope scope(scratch_);
    const int64_t vocabulary = model_.config().vocab_size;
    std::vector<int32_t> ids, positions;
    std::vector<StepSpan> spans;
    for (int64_t i = begin; i < end; ++i) {
      const KvCache::Sequence sequence = sequences_[static_cast<size_t>(i)];
      const int64_t first = cache_.length(sequence), row = int64_t(ids.size());
      cache_.extend(sequence, count);
      spans.push_back({row, row + count, sequence, first});
      for (int64_t t = 0; t < count; ++t) {
        ids.push_back(int32_t(((first + t) * 7919 + i * 104729 + 2) % vocabulary));
        positions.push_back(static_cast<int32_t>(first + t));
      }
    }
    const auto rows = static_cast<int64_t>(ids.size());
    const Out2 h = scratch_.floats(rows, model_.config().hidden_size);
    StepPass pass{path, cache_, scratch_, {positions.data(), {rows}}, spans, work_.precision};
    model_.step({ids.data(), {rows}}, pass, h);
    const int64_t texts = end - begin;
    const Out2 last = scratch_.floats(texts, h.dim(1));
    for (int64_t i = 0; i < texts; ++i) {
      std::copy_n(h.row((i + 1) * count - 1), h.dim(1), last.row(i));
    }
    const Out2 logits = scratch_.floats(texts, vocabulary);
    model_.head(last, pass, logits);
    parallel_tasks(texts, [&](int64_t i) {
      drawn_[static_cast<size_t>(begin + i)] = sample_token(
          {logits.row(i), static_cast<size_t>(vocabulary)}, vocabulary, {.temperature = 0}, 0);
    });
    return pass.experts_read;
  }

 private:
  Transformer& model_;
  const ServingWork& work_;
  KvCache cache_;
  Arena scratch_;
  std::vector<KvCache::Sequence> sequences_;
  std::vector<int32_t> drawn_;
};

// Weights that the calls read in which so many experts were chosen.
double weight_bytes(const Transformer& model, int64_t calls, int64_t experts_read) {
  const ModelConfig& c = model.config();
  double always = 0, of_experts = 0;
  int64_t matrices = 0;
  for (const Param& p : model.params().all()) {
    if (p.layer >= c.num_hidden_layers) continue;  // MTP
    if (p.group == ParamGroup::kEmbedding && !c.tie_word_embeddings) continue;
    (p.expert ? of_experts : always) += double(p.value_bytes());
    matrices += p.expert ? 1 : 0;
  }
  constexpr int64_t kMatrices = 3;  // of an expert, which are all of one size
  const double expert = matrices == 0 ? 0 : kMatrices * of_experts / double(matrices);
  return always * double(calls) + expert * double(experts_read);
}

double cache_bytes(const Transformer& model, DType dtype) {
  auto specs = model.cache_specs();
  specs.resize(static_cast<size_t>(model.config().num_hidden_layers));  // without MTP
  return double(KvCache(specs, dtype).bytes_per_token());
}

// Without the head, which a prompt needs once.
double prompt_flops(const Transformer& model, const ServingWork& work) {
  ModelConfig config = model.config();
  config.num_nextn_predict_layers = 0;
  const Inspection facts = inspect_model(config);
  const double head = 2.0 * double(config.vocab_size) * double(config.hidden_size);
  return training_flops_per_token(facts, 2 * work.depth + work.tokens) / 3 - head;
}

// A block of random numbers, again and again.
void fill_panels(const Param& p, const Format& format) {
  Tensor<float, 2> block({format.block.rows, format.block.cols});
  Rng rng(2, 0);
  for (int64_t i = 0; i < block.size(); ++i) block.data()[i] = random_weight(rng);
  std::vector<std::byte> bytes(static_cast<size_t>(p.block_bytes));
  format.encode(block, {bytes.data(), {}, {}});
  auto* to = static_cast<std::byte*>(p.value);
  for (int64_t at = 0; at < p.value_bytes(); at += p.block_bytes) {
    std::memcpy(to + at, bytes.data(), bytes.size());
  }
}

void fill_numbers(const Param& p, const Format& format, uint64_t stream) {
  Rng rng(1, stream);
  std::vector<float> row(static_cast<size_t>(p.cols()));
  auto* to = static_cast<std::byte*>(p.value);
  for (int64_t i = 0; i < p.rows(); ++i) {
    for (float& x : row) x = p.group == ParamGroup::kNorm ? 1.0f : random_weight(rng);
    const int64_t bytes = code_bytes(format, 1, p.cols());
    format.encode({row.data(), {1, p.cols()}}, {to + i * bytes, {}, {}});
  }
}

// Codes below 1: of their exponents, every other one.
void fill_codes(const Param& p, uint64_t stream) {
  Rng rng(1, stream);
  auto* codes = static_cast<std::byte*>(p.value);
  for (int64_t i = 0; i < p.size(); i += int64_t{sizeof(uint64_t)}) {
    const uint64_t some = rng.next_u64() & 0xb7b7b7b7b7b7b7b7u;
    std::memcpy(codes + i, &some, std::min<size_t>(sizeof some, size_t(p.size() - i)));
  }
  auto* scales = const_cast<float*>(p.code_scales);  // of memory that allocate_values made
  for (int64_t i = 0; i < p.scale_count(); ++i) {
    scales[i] = 0.03f * (1 + static_cast<float>(rng.uniform()));
  }
}

}  // namespace

void fill_cache(KvCache& cache, KvCache::Sequence sequence, int64_t tokens) {
  constexpr int64_t kPlaces = 4099;  // where a page's rows may begin among the numbers drawn
  int64_t widest = 0;
  for (int64_t layer = 0; layer < cache.layers(); ++layer) {
    widest = std::max(widest, cache.elements(layer));
  }
  std::vector<float> numbers(static_cast<size_t>(KvCache::kPageTokens * widest + kPlaces));
  Rng rng(3, 0);
  const double bound = std::sqrt(3.0);  // of evenly spread numbers whose deviation is 1
  for (float& x : numbers) x = static_cast<float>(bound * (2 * rng.uniform() - 1));
  for (int64_t first = 0; first < tokens; first += KvCache::kPageTokens) {
    const int64_t rows = std::min(KvCache::kPageTokens, tokens - first);
    for (int64_t layer = 0; layer < cache.layers(); ++layer) {
      const int64_t place = (first / KvCache::kPageTokens * 17 + layer * 1009) % kPlaces;
      cache.write(sequence, layer, first, {numbers.data() + place, {rows, cache.elements(layer)}});
    }
  }
}

void fill_randomly(Transformer& model, const ModelFormat& format) {
  std::deque<Param>& list = model.params().all();
  for (Param& p : list) {
    const Format& stored = format_in(format, p, DType::kBF16);
    p.dtype = stored.dtype;
    p.block_bytes = stored.block_bytes;
  }
  model.params().allocate_values();
  parallel_tasks(static_cast<int64_t>(list.size()), [&](int64_t i) {
    const Param& p = list[static_cast<size_t>(i)];
    const Format& held = *format_of(p.dtype, p.block_bytes);
    if (p.block_bytes > 0) return fill_panels(p, held);
    if (p.code_scales != nullptr) return fill_codes(p, static_cast<uint64_t>(i));
    fill_numbers(p, held, static_cast<uint64_t>(i));
  });
}

ServingTime time_prefill(Transformer& model, const ServingWork& work) {
  Texts texts(model, work);
  std::vector<double> seconds;
  int64_t calls = 0, experts = 0;
  while (int64_t(seconds.size()) < kPrefills &&
         std::accumulate(seconds.begin(), seconds.end(), 0.0) < kPrefillSeconds) {
    texts.rewind();
    calls = experts = 0;
    const auto start = Clock::now();
    for (int64_t text = 0; text < work.batch; ++text) {  // as the engine takes one caller's texts
      for (int64_t done = 0; done < work.tokens; done += kLonePromptChunk, ++calls) {
        const int64_t count = std::min(kLonePromptChunk, work.tokens - done);
        experts += texts.step(Path::kPrompt, count, text, text + 1);
      }
    }
    seconds.push_back(seconds_since(start));
  }
  const double tokens = double(work.tokens * work.batch);
  const double context = double(work.depth) + double(work.tokens) / 2;
  return {tokens / median(seconds),
          weight_bytes(model, calls, experts) / tokens +
              context * cache_bytes(model, work.cache_dtype) * double(calls) / tokens,
          prompt_flops(model, work)};
}

ServingTime time_decode(Transformer& model, const ServingWork& work) {
  Texts texts(model, work);
  for (int64_t i = 0; i < kWarmSteps; ++i) {
    texts.rewind();
    texts.step(Path::kGenerated, 1, 0, work.batch);
  }
  texts.rewind();
  std::vector<double> seconds;
  int64_t experts = 0;
  for (int64_t i = 0; i < work.tokens; ++i) {
    const auto start = Clock::now();
    experts += texts.step(Path::kGenerated, 1, 0, work.batch);
    seconds.push_back(seconds_since(start));
  }
  ModelConfig config = model.config();
  config.num_nextn_predict_layers = 0;
  const Inspection facts = inspect_model(config);
  const double context = double(work.depth) + double(work.tokens) / 2;
  return {double(work.batch) / median(seconds),
          weight_bytes(model, work.tokens, experts) / double(work.tokens * work.batch) +
              context * cache_bytes(model, work.cache_dtype),
          double(facts.weight_flops) + context * double(facts.attention_flops)};
}

}  // namespace hadal
