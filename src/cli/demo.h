#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cli/generation.h"
#include "core/json.h"
#include "train/trainer.h"

namespace hadal {

// What `hadal demo` does, apart from what it prints: writes its own corpus, trains a tokenizer and
// a small DeepSeek-V3 model on it, exports that as a Hugging Face folder, loads it as a stranger
// would, and asks it about stories it has never seen.
struct DemoOptions {
  uint64_t seed = 1;
  int64_t steps = 0;   // 0: recipes/demo.toml's
  double minutes = 0;  // > 0: as many steps as fit, measured first
  std::string out = "hadal-demo";
  std::vector<std::string> sets;  // other values for keys of the recipe, "a.b=v"
};

struct DemoAnswers {
  int64_t asked = 0, right = 0;
  double share() const { return asked == 0 ? 0 : double(right) / double(asked); }
};

struct DemoSample {
  std::string prompt, text;
  SampleStats plain, speculative;
};

struct DemoResult {
  int64_t steps = 0, parameters = 0;
  double train_seconds = 0, train_tokens_per_s = 0;
  double bits_before = 0, bits_after = 0, bits_of_generator = 0;  // per byte of held-out text
  double max_vio_first = 0, max_vio_last = 0;
  double acceptance = 0;  // held-out greedy agreement
  DemoAnswers one_hop, two_hops;
  std::vector<DemoSample> samples;
  int64_t kv_bytes = 0, kv_bytes_mha = 0;  // a token, BF16
  std::string model;                       // its folder
  std::string report;                      // the page about the training
  std::string held_out;                    // stories nobody trained on
};

struct DemoEvents {
  std::function<void(const std::string&)> say;  // a line about what happens now
  std::function<void(const Progress&)> step;
  std::function<void(int64_t done, int64_t of)> asked;
};

DemoResult run_demo(const DemoOptions& options, const DemoEvents& events);
OrderedJson demo_json(const DemoResult& result);
std::string demo_table(const DemoResult& result);

}  // namespace hadal
