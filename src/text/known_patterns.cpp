#include "text/known_patterns.h"

#include <array>
#include <cstdint>

#include "core/error.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace hadal {

const char* const kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

const char* const kDeepSeekV3Patterns[3] = {
    R"(\p{N}{1,3})", "[一-龥\u3040-ゟ゠-ヿ]+",
    ("[!\"#$%&'()*+,\\-./"
     ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]"
     "+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")};

namespace {

const char* const kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

enum Flag : uint8_t {
  kLetter = 1,
  kMark = 2,
  kNumber = 4,
  kPunctuation = 8,  // \p{P} and \p{S}
  kSpace = 16,
  kNewline = 32,  // \r and \n; they are kSpace too
  kCjk = 64,      // the second of DeepSeek-V3's patterns
  kEnd = 128,     // no character: the end of the text or of the piece
};

class Flags {
 public:
  Flags() : classes_(make()) {
    for (size_t i = 0; i < std::size(kOrder); ++i) {
      for (const uint8_t number : classes_.of_set(static_cast<int64_t>(i))) {
        of_class_[number] |= kOrder[i];
      }
    }
    for (char32_t c = 0; c < 128; ++c) ascii_[c] = of_class_[classes_(c)];
  }

  uint8_t at(const char* p) const {
    const auto lead = static_cast<unsigned char>(*p);
    return lead < 0x80 ? ascii_[lead] : of_class_[classes_(utf8_char(p))];
  }

 private:
  static constexpr Flag kOrder[] = {kLetter, kMark, kNumber, kPunctuation, kSpace, kNewline, kCjk};

  static CodePointClasses make() {
    const CodePointSet sets[] = {*unicode_property("L"),
                                 *unicode_property("M"),
                                 *unicode_property("N"),
                                 *unicode_property("P") | *unicode_property("S"),
                                 white_space(),
                                 CodePointSet('\n', '\n') | CodePointSet('\r', '\r'),
                                 CodePointSet(0x4e00, 0x9fa5) | CodePointSet(0x3040, 0x30ff)};
    return *CodePointClasses::make(sets);
  }

  CodePointClasses classes_;
  std::array<uint8_t, 256> of_class_{};
  std::array<uint8_t, 128> ascii_{};
};

const Flags& flags() {
  static const Flags instance;
  return instance;
}

// A walk over a text; words go to the end of a list.
class Walk {
 public:
  // A character with one of the flags `stop` counts as the end of the piece.
  Walk(std::string_view text, std::vector<std::string_view>& words, uint8_t stop = 0)
      : flags_(flags()), end_(text.data() + text.size()), stop_(stop), words_(words) {}

  uint8_t look(const char* p) const {
    if (p == end_) return kEnd;
    const uint8_t found = flags_.at(p);
    return (found & stop_) != 0 ? uint8_t{kEnd} : found;
  }
  static const char* next(const char* p) { return p + utf8_length(static_cast<unsigned char>(*p)); }

  // Past all characters that have one of the flags, or none of them.
  const char* skip(const char* p, uint8_t any) const {
    while ((look(p) & any) != 0) p = next(p);
    return p;
  }
  const char* skip_without(const char* p, uint8_t none) const {
    while ((look(p) & (none | kEnd)) == 0) p = next(p);
    return p;
  }

  // \s*[\r\n]+|\s+(?!\S)|\s+ (the first only when asked for) at a white-space character.
  const char* space_end(const char* p, bool lines) const {
    const char* after_newline = nullptr;
    const char* last = p;
    const char* q = p;
    for (uint8_t found = look(q); (found & kSpace) != 0; found = look(q)) {
      last = q;
      q = next(q);
      if ((found & kNewline) != 0) after_newline = q;
    }
    if (lines && after_newline != nullptr) return after_newline;
    return look(q) == kEnd || last == p ? q : last;
  }

  void word(const char* begin, const char* end) const {
    words_.emplace_back(begin, static_cast<size_t>(end - begin));
  }
  const char* end() const { return end_; }

 private:
  const Flags& flags_;
  const char* end_;
  uint8_t stop_;
  std::vector<std::string_view>& words_;
};

bool is_ascii_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// The end of a match of DeepSeek-V3's third pattern that begins at p; nullptr when none does.
const char* deepseek_word_end(const Walk& walk, const char* p, uint8_t found) {
  const char* q = Walk::next(p);
  if ((found & kLetter) != 0) return walk.skip(q, kLetter | kMark);
  const uint8_t after = walk.look(q);
  if ((found & kPunctuation) != 0) {
    // The first alternative: one of ASCII's 32 signs with the ASCII letters behind it.
    if (static_cast<unsigned char>(*p) < 0x80 && after == kLetter && is_ascii_letter(*q)) {
      while (walk.look(q) == kLetter && is_ascii_letter(*q)) ++q;
      return q;
    }
    return walk.skip(walk.skip(q, kPunctuation), kNewline);
  }
  if ((found & kNewline) == 0 && (after & (kLetter | kMark)) != 0) {
    return walk.skip(q, kLetter | kMark);
  }
  if ((found & kMark) != 0) return q;
  if (*p == ' ' && (after & kPunctuation) != 0) {
    return walk.skip(walk.skip(q, kPunctuation), kNewline);
  }
  return (found & kSpace) != 0 ? walk.space_end(p, true) : nullptr;
}

// The words of DeepSeek-V3's third pattern from p to the walk's end of piece, which it returns.
// What no alternative matches stays together until one does.
const char* split_deepseek_piece(const Walk& walk, const char* p) {
  const char* unmatched = p;
  for (uint8_t found = walk.look(p); found != kEnd; found = walk.look(p)) {
    const char* q = deepseek_word_end(walk, p, found);
    if (q == nullptr) {
      p = Walk::next(p);
      continue;
    }
    if (unmatched != p) walk.word(unmatched, p);
    walk.word(p, q);
    unmatched = p = q;
  }
  if (unmatched != p) walk.word(unmatched, p);
  return p;
}

void split_deepseek(std::string_view text, std::vector<std::string_view>& words) {
  const Walk walk(text, words);
  const Walk prose(text, words, kNumber | kCjk);
  const char* p = text.data();
  for (uint8_t found = walk.look(p); found != kEnd; found = walk.look(p)) {
    if ((found & kNumber) != 0) {
      const char* q = p;
      for (int i = 0; i < 3 && (walk.look(q) & kNumber) != 0; ++i) q = Walk::next(q);
      walk.word(p, q);
      p = q;
    } else if ((found & kCjk) != 0) {
      const char* q = walk.skip(p, kCjk);
      const Walk run({p, static_cast<size_t>(q - p)}, words);
      p = split_deepseek_piece(run, p);
    } else {
      p = split_deepseek_piece(prose, p);
    }
  }
}

// The end of "'s", "'t", "'re", "'ve", "'m", "'ll" or "'d" at p; nullptr when none is there.
const char* contraction_end(const char* p, const char* end, bool ignore_case) {
  const std::string_view rest(p, static_cast<size_t>(end - p));
  if (rest.size() < 2 || rest[0] != '\'') return nullptr;
  if (ignore_case && rest.substr(1).starts_with("\u017f")) return p + 3;  // folds to s
  const auto folded = [&](size_t i) -> char {
    if (i >= rest.size()) return 0;
    return ignore_case && is_ascii_letter(rest[i]) ? static_cast<char>(rest[i] | 0x20) : rest[i];
  };
  const char first = folded(1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return p + 2;
  const char second = folded(2);
  const bool two = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
                   (first == 'l' && second == 'l');
  return two ? p + 3 : nullptr;
}

void split_gpt2(std::string_view text, std::vector<std::string_view>& words) {
  const Walk walk(text, words);
  const char* p = text.data();
  for (uint8_t found = walk.look(p); found != kEnd; found = walk.look(p)) {
    const char* q = contraction_end(p, walk.end(), false);
    if (q == nullptr) {
      q = *p == ' ' ? p + 1 : p;
      const uint8_t body = walk.look(q);
      if ((body & kLetter) != 0) {
        q = walk.skip(q, kLetter);
      } else if ((body & kNumber) != 0) {
        q = walk.skip(q, kNumber);
      } else if ((body & (kSpace | kEnd)) == 0) {
        q = walk.skip_without(q, kSpace | kLetter | kNumber);
      } else {
        q = walk.space_end(p, false);
      }
    }
    walk.word(p, q);
    p = q;
  }
}

void split_llama3(std::string_view text, int max_digits, std::vector<std::string_view>& words) {
  const Walk walk(text, words);
  const char* p = text.data();
  for (uint8_t found = walk.look(p); found != kEnd; found = walk.look(p)) {
    const char* q = contraction_end(p, walk.end(), true);
    if (q == nullptr) {
      q = Walk::next(p);
      const uint8_t after = walk.look(q);
      if ((found & kLetter) != 0 ||
          ((found & (kNewline | kNumber)) == 0 && (after & kLetter) != 0)) {
        q = walk.skip(q, kLetter);
      } else if ((found & kNumber) != 0) {
        for (int i = 1; i < max_digits && (walk.look(q) & kNumber) != 0; ++i) q = Walk::next(q);
      } else if ((found & kSpace) == 0 || (*p == ' ' && (after & (kSpace | kNumber | kEnd)) == 0)) {
        q = walk.skip(walk.skip_without(q, kSpace | kLetter | kNumber), kNewline);
      } else {
        q = walk.space_end(p, true);
      }
    }
    walk.word(p, q);
    p = q;
  }
}

bool is_isolated(const SplitStage& stage) {
  return stage.behavior == SplitBehavior::kIsolated && !stage.invert;
}

// These patterns match every character, so keeping only the matches is the same.
bool is_isolated_or_keeps_matches(const SplitStage& stage) {
  return is_isolated(stage) || (stage.behavior == SplitBehavior::kRemoved && stage.invert);
}

}  // namespace

KnownPattern recognize_pattern(std::span<const SplitStage> stages) {
  if (stages.size() == 3) {
    for (size_t i = 0; i < 3; ++i) {
      if (!is_isolated(stages[i]) || stages[i].pattern != kDeepSeekV3Patterns[i]) {
        return KnownPattern::kNone;
      }
    }
    return KnownPattern::kDeepSeekV3;
  }
  if (stages.size() != 1 || !is_isolated_or_keeps_matches(stages[0])) return KnownPattern::kNone;
  if (stages[0].pattern == kGpt2Pattern) return KnownPattern::kGpt2;
  if (stages[0].pattern == kLlama3Pattern) return KnownPattern::kLlama3;
  if (stages[0].pattern == kQwen2Pattern) return KnownPattern::kQwen2;
  return KnownPattern::kNone;
}

void split_known(KnownPattern pattern, std::string_view text,
                 std::vector<std::string_view>& words) {
  switch (pattern) {
    case KnownPattern::kDeepSeekV3:
      return split_deepseek(text, words);
    case KnownPattern::kGpt2:
      return split_gpt2(text, words);
    case KnownPattern::kLlama3:
      return split_llama3(text, 3, words);
    case KnownPattern::kQwen2:
      return split_llama3(text, 1, words);
    case KnownPattern::kNone:
      break;
  }
  throw Error(ErrorKind::kInternal, "split_known: no pattern");
}

}  // namespace hadal
