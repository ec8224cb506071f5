#pragma once
#include <cstdint>

#include "cli/demo.h"
#include "core/files.h"
#include "text/corpus.h"

namespace hadal {

// The parts that demo_run.cpp puts together.

// Where the stories of a seed are: those trained on begin at 0, and from the others none is ever
// trained on.
constexpr uint64_t kValidStories = uint64_t{1} << 40;
constexpr uint64_t kQuestionStories = kValidStories + 1'000'000;
constexpr uint64_t kPromptStories = kValidStories + 2'000'000;

struct DemoTokenizer {
  int64_t ids = 0;
  double tokens_per_story = 0, bytes_per_token = 0;
};
// Trains a tokenizer on the first stories and writes its files to `folder`.
DemoTokenizer write_demo_tokenizer(uint64_t seed, const fs::path& folder);
// Stories as a .jsonl of documents; returns them.
Corpus write_demo_stories(uint64_t seed, uint64_t first, int64_t count, const fs::path& path);

// Questions about stories nobody trained on, answered greedily: fills one_hop and two_hops.
void ask_demo_questions(TextGenerator& model, uint64_t seed, const DemoEvents& events,
                        DemoResult& result);
// Such stories broken off in the middle, for the model to go on; with and without speculation,
// which must not change the text.
std::vector<DemoSample> write_demo_samples(TextGenerator& model, uint64_t seed);

}  // namespace hadal
