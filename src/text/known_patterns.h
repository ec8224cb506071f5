#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hadal {

// What a Split does with the stretches its pattern matches, as Hugging Face names it.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct SplitStage {
  std::string pattern;  // a regular expression
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
};

// Sequences of Splits common enough for hand-written code, several times faster than PCRE2.
enum class KnownPattern { kNone, kDeepSeekV3, kGpt2, kLlama3, kQwen2 };

// GPT-2's regular expression, which ByteLevel with use_regex applies.
extern const char* const kGpt2Pattern;
// DeepSeek-V3's three Splits, in order.
extern const char* const kDeepSeekV3Patterns[3];

// kNone unless the stages are exactly those of a known tokenizer.
KnownPattern recognize_pattern(std::span<const SplitStage> stages);

// Appends the words of `text` (valid UTF-8), the same as the stages give through PCRE2. Linear in
// time. `pattern` is not kNone.
void split_known(KnownPattern pattern, std::string_view text, std::vector<std::string_view>& words);

}  // namespace hadal
