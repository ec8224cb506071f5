#include "text/regex_syntax.h"

#include <algorithm>
#include <cctype>
#include <optional>

#include "core/error.h"
#include "text/utf8.h"

namespace hadal {
namespace {

constexpr size_t kMaxPatternBytes = 32768;
constexpr int64_t kMaxDepth = 50;
constexpr int64_t kMaxRepeat = 1000;

bool is_ascii_letter(char32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_ascii_digit(char32_t c) {
  return c >= '0' && c <= '9';
}

// Every character that (?i) makes equal to the ASCII character c.
CodePointSet case_variants(char32_t c) {
  CodePointSet set(c, c);
  if (!is_ascii_letter(c)) return set;
  set = set | CodePointSet(c ^ 0x20, c ^ 0x20);
  const char32_t lower = c | 0x20;
  if (lower == 's') set = set | CodePointSet(0x17f, 0x17f);    // LATIN SMALL LETTER LONG S
  if (lower == 'k') set = set | CodePointSet(0x212a, 0x212a);  // KELVIN SIGN
  return set;
}

// Two letters that one ligature folds to ("ss" is also U+00DF): Oniguruma then matches the
// ligature, which a set of single characters cannot say.
bool folds_together(char32_t a, char32_t b) {
  const std::string pair = {static_cast<char>(a | 0x20), static_cast<char>(b | 0x20)};
  for (const char* known : {"ss", "st", "ff", "fi", "fl"}) {
    if (pair == known) return true;
  }
  return false;
}

class Parser {
 public:
  Parser(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  RegexSyntax run() {
    if (pattern_.size() > kMaxPatternBytes) {
      refuse_text(
          str("a pattern of ", pattern_.size(), " bytes, expected at most ", kMaxPatternBytes));
    }
    if (!is_utf8(pattern_)) refuse_text("a pattern that is not UTF-8");
    if (take("(?i)")) ignore_case_ = true;
    alternatives(0);
    if (!at_end()) refuse(at_, 1, "a \")\" without its \"(\"");
    return std::move(result_);
  }

 private:
  [[noreturn]] void refuse_text(const std::string& what) const {
    throw Error(ErrorKind::kFormat, str(where_, ": ", what));
  }

  [[noreturn]] void refuse(size_t begin, size_t length, const std::string& why) const {
    size_t end = std::min(pattern_.size(), begin + length);
    while (end < pattern_.size() && (static_cast<unsigned char>(pattern_[end]) & 0xc0) == 0x80) {
      ++end;
    }
    refuse_text(str("at byte ", begin, " \"", pattern_.substr(begin, end - begin), "\": ", why));
  }

  bool at_end() const { return at_ == pattern_.size(); }
  bool looking_at(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  bool take(std::string_view text) {
    if (!looking_at(text)) return false;
    at_ += text.size();
    return true;
  }
  char32_t next_char() {
    if (at_end()) refuse(at_, 0, "the pattern ends too early");
    const char32_t c = utf8_char(pattern_.data() + at_);
    at_ += utf8_length(static_cast<unsigned char>(pattern_[at_]));
    return c;
  }

  void emit(std::string_view text) {
    auto& items = result_.items;
    if (!items.empty() && items.back().set < 0) {
      items.back().text += text;
    } else {
      items.push_back({std::string(text), -1});
    }
  }

  void emit(const CodePointSet& set) {
    auto& sets = result_.sets;
    const auto found = std::find(sets.begin(), sets.end(), set);
    result_.items.push_back({"", found - sets.begin()});
    if (found != sets.end()) return;
    sets.push_back(set);
    if (static_cast<int64_t>(sets.size()) > CodePointClasses::kMaxSets) {
      refuse_text(str("more than ", CodePointClasses::kMaxSets, " different character classes"));
    }
  }

  void alternatives(int64_t depth) {
    if (depth > kMaxDepth) refuse(at_, 1, str("groups more than ", kMaxDepth, " deep"));
    previous_letter_.reset();
    while (!at_end() && !looking_at(")")) {
      if (take("|")) {
        emit("|");
        previous_letter_.reset();
      } else {
        repeated(depth);
      }
    }
  }

  // One atom and what repeats it.
  void repeated(int64_t depth) {
    const size_t begin = at_;
    auto& items = result_.items;
    const size_t first = items.size();
    const size_t first_text = first > 0 ? items.back().text.size() : 0;
    const bool can_repeat = atom(depth);
    const size_t quantifier = at_;
    const std::string repeat = take_quantifier();
    if (repeat.empty()) return;
    if (!can_repeat) refuse(begin, at_ - begin, "repetition of an anchor or a look-around");
    if (first > 0 && items[first - 1].set < 0) {
      items[first - 1].text.insert(first_text, kRegexStart);
    } else {
      items.insert(items.begin() + static_cast<std::ptrdiff_t>(first), {std::string(kRegexStart)});
    }
    emit(repeat);
    emit(kRegexStep);
    previous_letter_.reset();
    if (!take_quantifier().empty()) {
      refuse(quantifier, at_ - quantifier, "a repetition of a repetition without a group");
    }
  }

  // "" when there is none here.
  std::string take_quantifier() {
    if (at_end()) return "";
    const size_t begin = at_;
    std::string repeat;
    bool counted = false;
    if (take("?")) {
      repeat = "?";
    } else if (take("*")) {
      repeat = "*";
    } else if (take("+")) {
      repeat = "+";
    } else {
      repeat = take_count();
      if (repeat.empty()) return "";
      counted = true;
    }
    const bool exact = counted && repeat.find(',') == std::string::npos;
    if (looking_at("?") && exact) refuse(begin, at_ - begin + 1, "a count that may be left out");
    if (looking_at("+") && counted) refuse(begin, at_ - begin + 1, "a possessive count");
    if (take("?")) return repeat + "?";
    if (take("+")) return repeat + "+";
    return repeat;
  }

  // {n}, {n,}, {n,m} or {,m}; "" (and nothing taken) for anything else, which is then literal.
  std::string take_count() {
    const size_t begin = at_;
    if (!take("{")) return "";
    const auto low = take_number();
    const bool comma = take(",");
    const auto high = comma ? take_number() : low;
    if (!take("}") || (!low && !high)) {
      at_ = begin;
      return "";
    }
    if (low.value_or(0) > kMaxRepeat || high.value_or(0) > kMaxRepeat ||
        (high && *high < low.value_or(0))) {
      refuse(begin, at_ - begin, str("expected 0 <= n <= m <= ", kMaxRepeat));
    }
    if (!comma) return str("{", *low, "}");
    return high ? str("{", low.value_or(0), ",", *high, "}") : str("{", *low, ",}");
  }

  std::optional<int64_t> take_number() {
    int64_t value = 0;
    size_t digits = 0;
    for (; !at_end() && is_ascii_digit(static_cast<unsigned char>(pattern_[at_]));
         ++at_, ++digits) {
      value = std::min<int64_t>(value * 10 + (pattern_[at_] - '0'), kMaxRepeat + 1);
    }
    return digits == 0 ? std::nullopt : std::optional(value);
  }

  // False for what has no width and cannot be repeated.
  bool atom(int64_t depth) {
    const size_t begin = at_;
    const char32_t c = next_char();
    if (c == '(') return group(begin, depth);
    if (c == '[') {
      emit(char_class(begin, 0));
      previous_letter_.reset();
      return true;
    }
    if (c == '.') {
      emit(~CodePointSet('\n', '\n'));
      return true;
    }
    if (c == '^') {
      // Oniguruma's ^ and $ are those of lines, always.
      emit("(?:\\A|(?<=");
      emit(CodePointSet('\n', '\n'));
      emit(")(?!\\z))");
      return false;
    }
    if (c == '$') {
      emit("(?:(?=");
      emit(CodePointSet('\n', '\n'));
      emit(")|\\z)");
      return false;
    }
    if (c == '*' || c == '+' || c == '?') refuse(begin, 1, "nothing before it to repeat");
    if (c == '\\') return escape(begin);
    literal(begin, c);
    return true;
  }

  void literal(size_t begin, char32_t c) {
    if (!ignore_case_) {
      emit(CodePointSet(c, c));
      return;
    }
    if (c >= 0x80) refuse(begin, at_ - begin, "a character beyond ASCII under (?i)");
    if (is_ascii_letter(c)) {
      if (previous_letter_ && folds_together(*previous_letter_, c)) {
        refuse(begin, 1, "letters under (?i) that fold together with the one before");
      }
      previous_letter_ = c;
    } else {
      previous_letter_.reset();
    }
    emit(case_variants(c));
  }

  bool group(size_t begin, int64_t depth) {
    const bool outer_case = ignore_case_;
    bool has_width = true;
    if (!looking_at("?") || take("?:")) {
      emit("(?:");
    } else if (take("?i:")) {
      ignore_case_ = true;
      emit("(?:");
    } else if (take("?-i:")) {
      ignore_case_ = false;
      emit("(?:");
    } else if (take("?>")) {
      emit("(?>");
    } else {
      has_width = false;
      std::string_view kind;
      for (const std::string_view known : {"?=", "?!", "?<=", "?<!"}) {
        if (take(known)) kind = known;
      }
      if (kind.empty()) refuse(begin, 4, "this kind of group is not supported");
      emit(str("(", kind));
    }
    alternatives(depth + 1);
    if (!take(")")) refuse(begin, 1, "a \"(\" without its \")\"");
    if (has_width) emit(kRegexStep);
    emit(")");
    ignore_case_ = outer_case;
    previous_letter_.reset();
    return has_width;
  }

  bool escape(size_t begin) {
    previous_letter_.reset();
    if (take("A")) {
      emit("\\A");
      return false;
    }
    if (take("z")) {
      emit("\\z");
      return false;
    }
    if (take("Z")) {
      emit("(?=");
      emit(CodePointSet('\n', '\n'));
      emit("?\\z)");
      return false;
    }
    if (looking_at("b") || looking_at("B")) {
      word_boundary(next_char() == 'b');
      return false;
    }
    if (auto set = class_escape(begin)) {
      emit(*set);
      return true;
    }
    literal(begin, escaped_char(begin));
    return true;
  }

  void word_boundary(bool is_boundary) {
    const CodePointSet word = word_characters();
    const auto side = [&](std::string_view look, std::string_view end) {
      emit(look);
      emit(word);
      emit(end);
    };
    side("(?:(?<=", ")");
    side(is_boundary ? "(?!" : "(?=", ")|");
    side("(?<!", ")");
    side(is_boundary ? "(?=" : "(?!", "))");
  }

  // \s, \d, \w, \h, \p{..} and their opposites, after the backslash; nothing for other escapes.
  std::optional<CodePointSet> class_escape(size_t begin) {
    if (take("s")) return white_space();
    if (take("S")) return ~white_space();
    if (take("d")) return unicode_property("Nd");
    if (take("D")) return ~*unicode_property("Nd");
    if (take("w")) return word_characters();
    if (take("W")) return ~word_characters();
    const CodePointSet hex =
        CodePointSet('0', '9') | CodePointSet('a', 'f') | CodePointSet('A', 'F');
    if (take("h")) return hex;
    if (take("H")) return ~hex;
    if (!looking_at("p") && !looking_at("P")) return std::nullopt;
    bool negated = next_char() == 'P';
    if (!take("{")) refuse(begin, at_ - begin, "expected \\p{NAME}");
    if (take("^")) negated = !negated;
    const size_t end = pattern_.find('}', at_);
    if (end == std::string_view::npos) refuse(begin, at_ - begin, "expected \\p{NAME}");
    const std::string_view name = pattern_.substr(at_, end - at_);
    at_ = end + 1;
    const auto set = unicode_property(name);
    if (!set) {
      refuse(begin, at_ - begin,
             "this property is not supported, expected a general category (L, Lu, ...) or Han, "
             "Hiragana, Katakana, Hangul");
    }
    return negated ? ~*set : *set;
  }

  // The character that an escape stands for, after the backslash.
  char32_t escaped_char(size_t begin) {
    const char32_t c = next_char();
    if (!is_ascii_letter(c) && !is_ascii_digit(c)) return c;
    switch (c) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'f':
        return '\f';
      case 'v':
        return '\v';
      case 'a':
        return '\a';
      case 'e':
        return 0x1b;
      case 'u':
        return hex_number(begin, 4, 4);
      case 'x': {
        if (!take("{")) {
          const char32_t value = hex_number(begin, 2, 2);
          // Oniguruma takes \x80 .. \xff as raw bytes.
          if (value >= 0x80) refuse(begin, at_ - begin, "a byte of a character, expected \\x{..}");
          return value;
        }
        const char32_t value = hex_number(begin, 1, 8);
        if (!take("}")) refuse(begin, at_ - begin, "expected \\x{HEX}");
        return value;
      }
      default:
        refuse(begin, at_ - begin, "this escape is not supported");
    }
  }

  char32_t hex_number(size_t begin, size_t least, size_t most) {
    char32_t value = 0;
    size_t count = 0;
    for (; count < most && !at_end() && std::isxdigit(static_cast<unsigned char>(pattern_[at_]));
         ++count, ++at_) {
      const char digit = pattern_[at_];
      value = value * 16 +
              static_cast<char32_t>(digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
    }
    const bool is_surrogate = value >= 0xd800 && value < 0xe000;
    if (count < least || value > kMaxCodePoint || is_surrogate) {
      refuse(begin, at_ - begin, "not the number of a character");
    }
    return value;
  }

  // After "[": the set up to its "]".
  CodePointSet char_class(size_t begin, int64_t depth) {
    if (depth > 8) refuse(begin, 1, "classes more than 8 deep");
    const bool negated = take("^");
    if (looking_at("]")) refuse(begin, at_ + 1 - begin, "an empty class; write \\] for a bracket");
    CodePointSet all(0, kMaxCodePoint);
    std::vector<CodePointSet::Range> members;
    CodePointSet nested;
    for (bool closed = false; !closed;) {
      if (at_end()) refuse(begin, 1, "a \"[\" without its \"]\"");
      closed = take("]");
      if (closed || take("&&")) {
        all = all & (CodePointSet(std::move(members)) | nested);
        members.clear();
        nested = {};
      } else {
        class_member(depth, members, nested);
      }
    }
    return negated ? ~all : all;
  }

  void class_member(int64_t depth, std::vector<CodePointSet::Range>& members,
                    CodePointSet& nested) {
    const size_t begin = at_;
    if (looking_at("[:")) refuse(begin, 2, "POSIX brackets are not supported");
    if (take("[")) {
      nested = nested | char_class(begin, depth + 1);
      return;
    }
    if (take("\\")) {
      if (auto set = class_escape(begin)) {
        if (looking_at("-") && !looking_at("-]")) {
          refuse(begin, at_ + 1 - begin, "a class as the end of a range");
        }
        nested = nested | *set;
        return;
      }
      at_ = begin;
    }
    const char32_t first = class_char();
    char32_t last = first;
    if (looking_at("-") && !looking_at("-]")) {
      at_ += 1;
      if (looking_at("[") || looking_at("&&")) refuse(begin, at_ - begin, "an unclear \"-\"");
      const size_t end = at_;
      if (take("\\") && class_escape(end)) {
        refuse(begin, at_ - begin, "a class as the end of a range");
      }
      at_ = end;
      last = class_char();
      if (last < first) refuse(begin, at_ - begin, "a range that ends before it begins");
    }
    add_range(begin, first, last, members);
  }

  char32_t class_char() {
    const size_t begin = at_;
    const char32_t c = next_char();
    if (c != '\\') return c;
    return take("b") ? U'\b' : escaped_char(begin);
  }

  void add_range(size_t begin, char32_t first, char32_t last,
                 std::vector<CodePointSet::Range>& members) {
    members.push_back({first, last});
    if (!ignore_case_) return;
    if (last >= 0x80) refuse(begin, at_ - begin, "a class beyond ASCII under (?i)");
    for (char32_t c = first; c <= last; ++c) {
      const CodePointSet variants = case_variants(c);
      members.insert(members.end(), variants.ranges().begin(), variants.ranges().end());
    }
  }

  std::string_view pattern_;
  const std::string& where_;
  size_t at_ = 0;
  bool ignore_case_ = false;
  std::optional<char32_t> previous_letter_;  // the literal just before, under (?i)
  RegexSyntax result_;
};

}  // namespace

RegexSyntax parse_regex(std::string_view pattern, const std::string& where) {
  return Parser(pattern, where).run();
}

}  // namespace hadal
