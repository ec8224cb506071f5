#include "text/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <deque>
#include <queue>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/byte_level.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

namespace hadal {
namespace {

using Symbols = std::vector<int32_t>;

uint64_t pair_key(int32_t left, int32_t right) {
  return uint64_t(uint32_t(left)) << 32 | uint64_t(uint32_t(right));
}
int32_t left_of(uint64_t pair) {
  return static_cast<int32_t>(pair >> 32);
}
int32_t right_of(uint64_t pair) {
  return static_cast<int32_t>(pair & 0xffffffffu);
}

struct PairHash {
  size_t operator()(uint64_t pair) const {
    pair *= 0x9e3779b97f4a7c15u;
    return pair ^ pair >> 32;
  }
};

// The merging itself, on words as lists of symbols.
class Merger {
 public:
  struct Word {
    Symbols symbols;
    int64_t count;
  };

  // `taken`: tokens that no merge may spell. `tokens`: what each symbol spells so far.
  Merger(std::vector<Word> words, std::vector<std::string> tokens,
         std::unordered_set<std::string> taken, const BpeTrainOptions& options)
      : words_(std::move(words)),
        tokens_(std::move(tokens)),
        taken_(std::move(taken)),
        options_(options) {
    for (size_t i = 0; i < tokens_.size(); ++i) ids_.emplace(tokens_[i], static_cast<int32_t>(i));
    for (size_t i = 0; i < words_.size(); ++i) {
      const Symbols& symbols = words_[i].symbols;
      for (size_t k = 0; k + 1 < symbols.size(); ++k) {
        add(pair_key(symbols[k], symbols[k + 1]), words_[i].count, i);
      }
    }
    queue_changed();
  }

  // Merges until there are `size` tokens or no pair is left that may be merged.
  void run(int64_t size) {
    while (static_cast<int64_t>(tokens_.size()) < size && !queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const int64_t count = pairs_.at(top.pair).count;
      if (count != top.count) {
        // Its count fell since; what it rose to would have been queued.
        if (count > 0) queue_.push({count, top.pair});
        continue;
      }
      if (count < options_.min_count) return;
      merge(top.pair);
      queue_changed();
    }
  }

  const std::vector<std::string>& tokens() const { return tokens_; }
  const std::vector<std::pair<int32_t, int32_t>>& merges() const { return merges_; }

 private:
  struct Candidate {
    int64_t count;
    uint64_t pair;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };
  struct Pair {
    int64_t count = 0;
    bool is_changed = false;    // waits in changed_
    bool is_merged = false;     // stands in merges_
    std::vector<size_t> words;  // that may hold it; some more than once, some no longer
  };

  void add(uint64_t pair, int64_t count, size_t word) {
    Pair& entry = pairs_[pair];
    entry.count += count;
    if (count < 0) return;
    if (entry.words.empty() || entry.words.back() != word) entry.words.push_back(word);
    if (!entry.is_changed) changed_.push_back(pair);
    entry.is_changed = true;
  }

  void queue_changed() {
    for (const uint64_t pair : changed_) {
      Pair& entry = pairs_.at(pair);
      entry.is_changed = false;
      if (entry.count > 0 && may_merge(pair)) queue_.push({entry.count, pair});
    }
    changed_.clear();
  }

  std::string spelt(uint64_t pair) const {
    return tokens_[static_cast<size_t>(left_of(pair))] +
           tokens_[static_cast<size_t>(right_of(pair))];
  }

  bool may_merge(uint64_t pair) const {
    const std::string token = spelt(pair);
    return static_cast<int64_t>(token.size()) <= options_.max_token_bytes &&
           !taken_.contains(token);
  }

  void merge(uint64_t pair) {
    // Two pairs may spell the same token ("a" + "bc", "ab" + "c"), and then bring back a pair that
    // was merged before.
    const auto next = static_cast<int32_t>(tokens_.size());
    const auto [entry, is_new] = ids_.emplace(spelt(pair), next);
    const int32_t merged = entry->second;
    if (is_new) tokens_.push_back(entry->first);
    Pair& info = pairs_.at(pair);
    if (!info.is_merged) merges_.emplace_back(left_of(pair), right_of(pair));
    info.is_merged = true;
    const std::vector<size_t> words = std::exchange(info.words, {});
    for (const size_t word : words) merge_in(word, pair, merged);
  }

  void merge_in(size_t word, uint64_t pair, int32_t merged) {
    auto& [symbols, count] = words_[word];
    const int32_t left = left_of(pair);
    const int32_t right = right_of(pair);
    size_t out = 0;
    for (size_t in = 0; in < symbols.size(); ++out) {
      if (symbols[in] != left || in + 1 == symbols.size() || symbols[in + 1] != right) {
        symbols[out] = symbols[in++];
        continue;
      }
      add(pair, -count, word);
      if (out > 0) {
        add(pair_key(symbols[out - 1], left), -count, word);
        add(pair_key(symbols[out - 1], merged), count, word);
      }
      in += 2;
      if (in < symbols.size()) {
        add(pair_key(right, symbols[in]), -count, word);
        add(pair_key(merged, symbols[in]), count, word);
      }
      symbols[out] = merged;
    }
    symbols.resize(out);
  }

  std::vector<Word> words_;
  std::vector<std::string> tokens_;  // raw bytes
  std::unordered_set<std::string> taken_;
  const BpeTrainOptions& options_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<std::pair<int32_t, int32_t>> merges_;
  std::unordered_map<uint64_t, Pair, PairHash> pairs_;
  std::vector<uint64_t> changed_;
  std::priority_queue<Candidate> queue_;
};

void check_options(const BpeTrainOptions& options) {
  std::unordered_set<std::string> seen;
  for (const auto* list : {&options.special_tokens, &options.added_tokens}) {
    for (const SpecialToken& token : *list) {
      HADAL_CHECK(is_utf8(token.content), kUsage,
                  "tokenizer training: a special token is not UTF-8");
      HADAL_CHECK(!token.content.empty() && token.content.size() <= AddedTokens::kMaxBytes, kUsage,
                  "tokenizer training: special token \"", token.content, "\" has ",
                  token.content.size(), " bytes, expected 1 to ", AddedTokens::kMaxBytes);
      HADAL_CHECK(seen.insert(token.content).second, kUsage, "tokenizer training: special token \"",
                  token.content, "\" is given twice");
      const auto bytes = from_byte_level(token.content);
      HADAL_CHECK(!bytes || bytes->size() > 1, kUsage, "tokenizer training: special token \"",
                  token.content, "\" is the name of a byte");
    }
  }
  const auto specials = static_cast<int64_t>(seen.size());
  HADAL_CHECK(options.vocab_size >= 256 + specials && options.vocab_size <= (int64_t{1} << 24),
              kUsage, "tokenizer training: vocab_size is ", options.vocab_size, ", expected ",
              256 + specials, " (bytes and special tokens) to 2^24");
  HADAL_CHECK(options.min_count >= 1, kUsage, "tokenizer training: min_count is ",
              options.min_count, ", expected at least 1");
  HADAL_CHECK(options.max_token_bytes >= 2, kUsage, "tokenizer training: max_token_bytes is ",
              options.max_token_bytes, ", expected at least 2");
  for (const int64_t index : {options.bos_index, options.eos_index, options.pad_index}) {
    HADAL_CHECK(index >= -1 && index < static_cast<int64_t>(options.special_tokens.size()), kUsage,
                "tokenizer training: index ", index, " of a special token, expected -1 to ",
                static_cast<int64_t>(options.special_tokens.size()) - 1);
  }
  HADAL_CHECK(!options.add_bos_token || options.bos_index >= 0, kUsage,
              "tokenizer training: add_bos_token without a BOS token");
}

// The 256 bytes in the order of the characters that spell them.
std::array<uint8_t, 256> byte_order() {
  std::array<uint8_t, 256> order{};
  for (size_t i = 0; i < 256; ++i) order[i] = static_cast<uint8_t>(i);
  std::sort(order.begin(), order.end(),
            [](uint8_t a, uint8_t b) { return byte_level_char(a) < byte_level_char(b); });
  return order;
}

}  // namespace

struct BpeTrainer::Impl {
  explicit Impl(BpeTrainOptions given)
      : options(std::move(given)),
        pre_tokenizer_json(options.pre_tokenizer.empty()
                               ? deepseek_v3_pre_tokenizer()
                               : OrderedJson(parse_json(options.pre_tokenizer, "pre_tokenizer"))),
        pre_tokenizer(PreTokenizer::from_json(Json(pre_tokenizer_json), "pre_tokenizer")) {}

  BpeTrainOptions options;
  OrderedJson pre_tokenizer_json;
  PreTokenizer pre_tokenizer;
  StringTable index;              // of each word in `words` and `counts`
  std::deque<std::string> words;  // stay where they are: `index` looks at them
  std::vector<int64_t> counts;
  int64_t bytes = 0;
};

BpeTrainer::BpeTrainer(BpeTrainOptions options) {
  check_options(options);
  impl_ = std::make_unique<Impl>(std::move(options));
}

BpeTrainer::~BpeTrainer() = default;

int64_t BpeTrainer::bytes_seen() const {
  return impl_->bytes;
}

void BpeTrainer::add(std::string_view document) {
  impl_->bytes += static_cast<int64_t>(document.size());
  std::string repaired;
  if (!is_utf8(document)) {
    repaired = repair_utf8(document);
    document = repaired;
  }
  PreTokenizer::Scratch scratch(document.size());
  std::vector<std::string_view> found;
  impl_->pre_tokenizer.split(document, scratch, found);
  for (const std::string_view word : found) {
    int32_t at = impl_->index.find(word);
    if (at < 0) {
      at = static_cast<int32_t>(impl_->words.size());
      impl_->words.emplace_back(word);
      impl_->counts.push_back(0);
      impl_->index.insert(impl_->words.back(), at);
    }
    ++impl_->counts[static_cast<size_t>(at)];
  }
}

TokenizerJson BpeTrainer::train() const {
  const BpeTrainOptions& options = impl_->options;
  // Symbols are numbered from the bytes on; the ids of the file follow the special tokens.
  std::vector<std::string> tokens;
  std::array<int32_t, 256> symbol_of{};
  for (const uint8_t byte : byte_order()) {
    symbol_of[byte] = static_cast<int32_t>(tokens.size());
    tokens.emplace_back(1, static_cast<char>(byte));
  }
  std::vector<Merger::Word> words;
  for (size_t i = 0; i < impl_->words.size(); ++i) {
    Symbols symbols;
    for (const char c : impl_->words[i])
      symbols.push_back(symbol_of[static_cast<unsigned char>(c)]);
    words.push_back({std::move(symbols), impl_->counts[i]});
  }
  std::unordered_set<std::string> taken;
  for (const auto* list : {&options.special_tokens, &options.added_tokens}) {
    for (const SpecialToken& token : *list) {
      if (auto bytes = from_byte_level(token.content)) taken.insert(std::move(*bytes));
    }
  }
  Merger merger(std::move(words), std::move(tokens), std::move(taken), options);
  merger.run(options.vocab_size -
             static_cast<int64_t>(options.special_tokens.size() + options.added_tokens.size()));
  return write_tokenizer(merger.tokens(), merger.merges(), impl_->pre_tokenizer_json, options);
}

}  // namespace hadal
