#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/unicode.h"

namespace hadal {

// Call-outs in `text` below, by which the work of a match is counted: before each repetition, and
// behind each and at the end of each group, wherever matching comes back to when it tries other
// ways. Between two of them PCRE2 passes at most the characters from one to the other.
inline constexpr int kRegexStartNumber = 1;
inline constexpr int kRegexStepNumber = 2;
inline constexpr std::string_view kRegexStart = "(?C1)";
inline constexpr std::string_view kRegexStep = "(?C2)";

// A regular expression of a tokenizer.json, read as Oniguruma reads it (Hugging Face's engine), in
// the form in which PCRE2 can take it: text in PCRE2's syntax with every character, class and
// anchor replaced by a set of code points.
struct RegexSyntax {
  struct Item {
    std::string text;  // PCRE2 syntax, when set < 0
    int64_t set = -1;  // else: one character out of sets[set]
  };
  std::vector<Item> items;
  std::vector<CodePointSet> sets;  // distinct
};

// Supported: literals, escapes, classes (ranges, \s \d \w \h \p{..}, nested, negated, &&), groups,
// (?i:..) over ASCII letters, look-around, atomic groups, ^ $ \A \z \Z \b \B, greedy, lazy and
// possessive repetition. What is not (back-references, recursion, named groups, ...) and what the
// two engines read differently is refused: Error{kFormat} that begins with `where` and names the
// construct and its byte.
RegexSyntax parse_regex(std::string_view pattern, const std::string& where);

}  // namespace hadal
