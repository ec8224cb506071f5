#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace hadal {

inline constexpr char32_t kMaxCodePoint = 0x10ffff;

// A set of code points: sorted ranges that neither overlap nor touch.
class CodePointSet {
 public:
  struct Range {
    char32_t first, last;
    bool operator==(const Range&) const = default;
  };

  CodePointSet() = default;
  CodePointSet(char32_t first, char32_t last) : ranges_{{first, last}} {}
  explicit CodePointSet(std::vector<Range> ranges);  // in any order, may overlap

  bool contains(char32_t c) const;
  bool empty() const { return ranges_.empty(); }
  const std::vector<Range>& ranges() const { return ranges_; }

  CodePointSet operator|(const CodePointSet& other) const;
  CodePointSet operator&(const CodePointSet& other) const;
  CodePointSet operator^(const CodePointSet& other) const;
  CodePointSet operator~() const;  // within U+0000 .. U+10FFFF
  bool operator==(const CodePointSet&) const = default;

 private:
  std::vector<Range> ranges_;
};

// Character classes as Hugging Face tokenizers has them (Unicode tables differ between libraries).
// General categories ("L", "Lu", "Cn", ...) and the scripts Han, Hiragana, Katakana, Hangul;
// nothing for another name.
std::optional<CodePointSet> unicode_property(std::string_view name);
CodePointSet white_space();       // \s of a regular expression, and what lstrip and rstrip take
CodePointSet word_characters();   // \w of a regular expression
CodePointSet single_word_part();  // what an added token with single_word may not stand beside
CodePointSet digits_numbers();    // what the Digits pre-tokenizer splits off

// The coarsest partition of all code points in which each of the given sets is a union of classes.
// A regular expression sees nothing else of a character, so it can be matched over class numbers.
class CodePointClasses {
 public:
  static constexpr int64_t kMaxSets = 240;
  // At most kMaxSets sets; nothing when they need more than 256 classes.
  static std::optional<CodePointClasses> make(std::span<const CodePointSet> sets);

  uint8_t operator()(char32_t c) const { return blocks_[index_[c >> 8] * 256u + (c & 255u)]; }
  int64_t size() const { return size_; }
  // The classes that make up the i-th set, ascending.
  const std::vector<uint8_t>& of_set(int64_t i) const { return of_set_[i]; }

 private:
  CodePointClasses() = default;
  int64_t size_ = 0;
  std::vector<uint16_t> index_;  // block number of every 256 code points
  std::vector<uint8_t> blocks_;
  std::vector<std::vector<uint8_t>> of_set_;
};

}  // namespace hadal
