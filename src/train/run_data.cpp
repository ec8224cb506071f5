#include "train/run_data.h"

namespace hadal {
namespace {

// Sources shuffle apart from each other; run.seed is below 2^48.
uint64_t seed_of(const TrainRecipe& recipe, size_t source) {
  return static_cast<uint64_t>(recipe.run.seed) + (static_cast<uint64_t>(source) << 48);
}

class Opener {
 public:
  Opener(const TrainRecipe& recipe, const Tokenizer& tokenizer, int64_t mtp_depth,
         const TokenizeWatch& watch)
      : recipe_(recipe), tokenizer_(tokenizer), mtp_depth_(mtp_depth), watch_(watch) {
    folder_ = recipe.data.cache.empty() ? default_token_cache() : fs::path(recipe.data.cache);
    if (recipe.data.fim_rate > 0) fim_ = make_fim(tokenizer, recipe.data.fim_rate);
  }

  RunData open() {
    const std::vector<DataSource> sources = recipe_.data.all_sources();
    HADAL_CHECK(!sources.empty(), kUsage,
                "the recipe names no text: give data.train or [[data.source]]");
    std::vector<TokenMixture::Part> parts;
    RunData data;
    for (size_t i = 0; i < sources.size(); ++i) {
      const DataSource& source = sources[i];
      TokenStore train = tokens_of(source.train);
      if (!source.valid.empty()) {
        hold_out(source, tokens_of(source.valid), i, data);
      } else if (recipe_.data.valid_share > 0) {
        DocumentSplit split =
            split_documents(train.count(), recipe_.data.valid_share, seed_of(recipe_, i));
        hold_out(source, train.subset(std::move(split.held_out)), i, data);
        train = train.subset(std::move(split.kept));
      }
      HADAL_CHECK(train.tokens() > recipe_.data.sequence_length, kFormat, "the training text of ",
                  shown(source), " has ", train.tokens(),
                  " tokens, expected more than data.sequence_length, ",
                  recipe_.data.sequence_length);
      TokenSourceOptions options = options_of(i);
      options.shuffle = true;
      options.fim = fim_;
      parts.push_back(
          {source.name, source.weight, TokenSource(std::move(train), std::move(options))});
    }
    data.train = std::make_unique<TokenMixture>(std::move(parts), seed_of(recipe_, 0));
    return data;
  }

 private:
  static std::string shown(const DataSource& source) {
    return source.name.empty() ? "data.train" : str("source \"", source.name, "\"");
  }
  TokenStore tokens_of(const std::vector<std::string>& patterns) const {
    return cached_tokens(tokenizer_, recipe_.data.tokenizer, expand_paths(patterns), folder_,
                         watch_);
  }
  TokenSourceOptions options_of(size_t source) const {
    TokenSourceOptions options;
    options.sequence_length = recipe_.data.sequence_length;
    options.mtp_depth = mtp_depth_;
    options.seed = seed_of(recipe_, source);
    options.shuffle = false;
    options.whole_documents = recipe_.data.rows == "documents";
    options.document_mask = recipe_.data.document_mask;
    return options;
  }
  void hold_out(const DataSource& source, TokenStore text, size_t i, RunData& data) const {
    data.held_out.push_back(
        {source.name, std::make_shared<TokenSource>(std::move(text), options_of(i))});
  }

  const TrainRecipe& recipe_;
  const Tokenizer& tokenizer_;
  int64_t mtp_depth_;
  const TokenizeWatch& watch_;
  fs::path folder_;
  Fim fim_;
};

}  // namespace

RunData open_run_data(const TrainRecipe& recipe, const Tokenizer& tokenizer, int64_t mtp_depth,
                      const TokenizeWatch& watch) {
  return Opener(recipe, tokenizer, mtp_depth, watch).open();
}

}  // namespace hadal
