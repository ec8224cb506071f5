#include "text/unicode.h"

#include <algorithm>
#include <map>
#include <string>

#include "text/unicode_tables.h"

namespace hadal {
namespace {

using unicode_tables::CodePointRange;

CodePointSet from_table(const CodePointRange* table, int64_t size) {
  std::vector<CodePointSet::Range> ranges;
  for (int64_t i = 0; i < size; ++i) ranges.push_back({table[i].first, table[i].last});
  return CodePointSet(std::move(ranges));
}

// Code points whose general category's name begins with `prefix`.
CodePointSet with_category(std::string_view prefix) {
  using namespace unicode_tables;  // NOLINT(google-build-using-namespace): its data alone
  std::vector<CodePointSet::Range> ranges;
  for (int64_t i = 0; i < kCategoryRunsSize; ++i) {
    const std::string_view name = kCategoryNames[kCategoryRuns[i] & 255u];
    if (!name.starts_with(prefix)) continue;
    const bool is_last = i + 1 == kCategoryRunsSize;
    ranges.push_back(
        {kCategoryRuns[i] >> 8, is_last ? kMaxCodePoint : (kCategoryRuns[i + 1] >> 8) - 1});
  }
  return CodePointSet(std::move(ranges));
}

}  // namespace

CodePointSet::CodePointSet(std::vector<Range> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.first < b.first; });
  for (const Range& range : ranges) {
    if (!ranges_.empty() && range.first <= ranges_.back().last + 1) {
      ranges_.back().last = std::max(ranges_.back().last, range.last);
    } else {
      ranges_.push_back(range);
    }
  }
}

bool CodePointSet::contains(char32_t c) const {
  const auto after =
      std::upper_bound(ranges_.begin(), ranges_.end(), c,
                       [](char32_t x, const Range& range) { return x < range.first; });
  return after != ranges_.begin() && c <= std::prev(after)->last;
}

CodePointSet CodePointSet::operator|(const CodePointSet& other) const {
  std::vector<Range> ranges = ranges_;
  ranges.insert(ranges.end(), other.ranges_.begin(), other.ranges_.end());
  return CodePointSet(std::move(ranges));
}

CodePointSet CodePointSet::operator~() const {
  CodePointSet result;
  char32_t next = 0;
  for (const Range& range : ranges_) {
    if (range.first > next) result.ranges_.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kMaxCodePoint) result.ranges_.push_back({next, kMaxCodePoint});
  return result;
}

CodePointSet CodePointSet::operator&(const CodePointSet& other) const {
  return ~(~*this | ~other);
}

CodePointSet CodePointSet::operator^(const CodePointSet& other) const {
  return (*this | other) & ~(*this & other);
}

std::optional<CodePointSet> unicode_property(std::string_view name) {
  using namespace unicode_tables;  // NOLINT(google-build-using-namespace): its data alone
  if (name == "Han") return from_table(kHan, kHanSize);
  if (name == "Hiragana") return from_table(kHiragana, kHiraganaSize);
  if (name == "Katakana") return from_table(kKatakana, kKatakanaSize);
  if (name == "Hangul") return from_table(kHangul, kHangulSize);
  if (name.empty() || name.size() > 2) return std::nullopt;
  CodePointSet set = with_category(name);
  if (set.empty()) return std::nullopt;
  return set;
}

CodePointSet white_space() {
  return from_table(unicode_tables::kWhiteSpace, unicode_tables::kWhiteSpaceSize);
}

CodePointSet word_characters() {
  return with_category("L") | with_category("M") | with_category("Nd") | with_category("Pc") |
         from_table(unicode_tables::kOtherWord, unicode_tables::kOtherWordSize);
}

CodePointSet single_word_part() {
  return word_characters() ^ from_table(unicode_tables::kSingleWordDifference,
                                        unicode_tables::kSingleWordDifferenceSize);
}

CodePointSet digits_numbers() {
  return with_category("N") ^
         from_table(unicode_tables::kDigitsDifference, unicode_tables::kDigitsDifferenceSize);
}

std::optional<CodePointClasses> CodePointClasses::make(std::span<const CodePointSet> sets) {
  if (static_cast<int64_t>(sets.size()) > kMaxSets) return std::nullopt;
  // Walk the borders of all sets; what the sets say about the stretch between two borders is its
  // signature, and stretches of one signature are one class.
  struct Border {
    char32_t at;
    size_t set;
  };
  std::vector<Border> borders;
  for (size_t i = 0; i < sets.size(); ++i) {
    for (const auto& range : sets[i].ranges()) {
      borders.push_back({range.first, i});
      borders.push_back({range.last + 1, i});
    }
  }
  std::stable_sort(borders.begin(), borders.end(),
                   [](const Border& a, const Border& b) { return a.at < b.at; });

  CodePointClasses result;
  std::map<std::string, uint8_t> class_of_signature;
  std::string signature(sets.size(), '0');
  std::vector<uint8_t> flat(kMaxCodePoint + 1);
  char32_t begin = 0;
  for (size_t next = 0; begin <= kMaxCodePoint;) {
    while (next < borders.size() && borders[next].at == begin) {
      char& member = signature[borders[next++].set];
      member = member == '0' ? '1' : '0';
    }
    const char32_t end = next < borders.size() ? borders[next].at : kMaxCodePoint + 1;
    auto found = class_of_signature.find(signature);
    if (found == class_of_signature.end()) {
      if (class_of_signature.size() == 256) return std::nullopt;
      const auto number = static_cast<uint8_t>(class_of_signature.size());
      found = class_of_signature.emplace(signature, number).first;
    }
    std::fill(flat.begin() + begin, flat.begin() + end, found->second);
    begin = end;
  }

  result.size_ = static_cast<int64_t>(class_of_signature.size());
  result.of_set_.resize(sets.size());
  for (size_t i = 0; i < sets.size(); ++i) {
    for (const auto& [signed_as, number] : class_of_signature) {
      if (signed_as[i] == '1') result.of_set_[i].push_back(number);
    }
    std::sort(result.of_set_[i].begin(), result.of_set_[i].end());
  }

  std::map<std::vector<uint8_t>, uint16_t> known_blocks;
  for (size_t at = 0; at < flat.size(); at += 256) {
    std::vector<uint8_t> block(flat.data() + at, flat.data() + at + 256);
    const auto [entry, is_new] =
        known_blocks.emplace(std::move(block), static_cast<uint16_t>(known_blocks.size()));
    if (is_new) {
      result.blocks_.insert(result.blocks_.end(), entry->first.begin(), entry->first.end());
    }
    result.index_.push_back(entry->second);
  }
  return result;
}

}  // namespace hadal
