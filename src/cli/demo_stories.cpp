#include "cli/demo_parts.h"

#include "core/json.h"
#include "text/bpe_trainer.h"
#include "text/tokenizer.h"

namespace hadal {
namespace {

constexpr int64_t kVocabulary = 1024;  // at most
constexpr int64_t kTokenizerStories = 3000;

}  // namespace

DemoTokenizer write_demo_tokenizer(uint64_t seed, const fs::path& folder) {
  const Corpus corpus = make_corpus(seed, 0, kTokenizerStories);
  BpeTrainOptions bpe;
  bpe.vocab_size = kVocabulary;
  BpeTrainer trainer(bpe);
  for (const Story& story : corpus.stories) trainer.add(story.text);
  const TokenizerJson files = trainer.train();
  write_file_atomically(folder / "tokenizer.json", files.tokenizer_json);
  write_file_atomically(folder / "tokenizer_config.json", files.tokenizer_config_json);
  const Tokenizer tokenizer = Tokenizer::load(folder);
  int64_t tokens = 0;
  for (const Story& story : corpus.stories) {
    tokens += static_cast<int64_t>(tokenizer.encode(story.text, {.special = false}).size()) + 2;
  }
  return {tokenizer.vocab_size(), static_cast<double>(tokens) / kTokenizerStories,
          static_cast<double>(corpus.bytes) / static_cast<double>(tokens)};
}

Corpus write_demo_stories(uint64_t seed, uint64_t first, int64_t count, const fs::path& path) {
  Corpus corpus = make_corpus(seed, first, count);
  std::string lines;
  for (const Story& story : corpus.stories) {
    lines += OrderedJson{{"text", story.text}}.dump() + "\n";
  }
  write_file_atomically(path, lines);
  return corpus;
}

}  // namespace hadal
