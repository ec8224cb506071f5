#include "text/jinja/lexer.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "core/error.h"
#include "text/jinja/python_text.h"
#include "text/utf8.h"

namespace hadal::jinja {
namespace {

constexpr auto kNoPlace = std::string::npos;
constexpr size_t kMaxSource = size_t{1} << 20;

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & '\x80') != 0;
}
bool is_decimal(char c) {
  return c >= '0' && c <= '9';
}
bool is_name_part(char c) {
  return is_name_start(c) || is_decimal(c);
}

// One kind of newline; the last one of the file does not count.
std::string normalized(std::string_view source) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& name) : name_(name) {
    HADAL_CHECK(source.size() <= kMaxSource, kFormat, name, ": the template has ", source.size(),
                " bytes, expected at most ", kMaxSource);
    HADAL_CHECK(is_utf8(source), kFormat, name, ": the template is not valid UTF-8");
    text_ = normalized(source);
  }

  std::vector<Token> run() {
    bool line_starting = true;  // what comes next stands at the beginning of a line
    while (at_ < text_.size()) {
      const size_t open = next_tag(at_);
      std::string data = text_.substr(at_, open - at_);
      if (open == kNoPlace) {
        push_text(data);
        advance(text_.size());
        break;
      }
      const char what = text_[open + 1];
      const char sign = open + 2 < text_.size() ? text_[open + 2] : '\0';
      trim_before(data, what, sign, line_starting);
      push_text(data);
      advance(open);
      if (what == '#') {
        skip_comment();
      } else if (const size_t body = raw_body(open); body != kNoPlace) {
        read_raw(body);
      } else {
        read_tag(what == '%', sign == '-' || sign == '+');
      }
      line_starting = at_ > 0 && text_[at_ - 1] == '\n';
    }
    push(TokenKind::kEnd);
    return std::move(tokens_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw Error(ErrorKind::kFormat, str(name_, ": line ", line_, ": ", parts...));
  }

  size_t next_tag(size_t from) const {
    for (size_t at = text_.find('{', from); at != kNoPlace; at = text_.find('{', at + 1)) {
      if (at + 1 < text_.size() && std::string_view("{%#").find(text_[at + 1]) != kNoPlace)
        return at;
    }
    return kNoPlace;
  }

  static void trim_before(std::string& data, char what, char sign, bool line_starting) {
    if (sign == '-') {
      data = strip(data, {}, false, true);
    } else if (sign != '+' && what != '{') {
      const size_t line = data.rfind('\n') + 1;  // kNoPlace + 1 is 0
      if ((line > 0 || line_starting) &&
          strip(std::string_view(data).substr(line), {}, true, false).empty()) {
        data.resize(line);
      }
    }
  }

  // Goes to `to`, counting lines.
  void advance(size_t to) {
    line_ += static_cast<int32_t>(
        std::count(text_.begin() + int64_t(at_), text_.begin() + int64_t(to), '\n'));
    at_ = to;
  }
  void skip_space() {
    size_t to = at_;
    while (to < text_.size() && is_space(utf8_char(text_.data() + to))) {
      to += utf8_length(static_cast<unsigned char>(text_[to]));
    }
    advance(to);
  }
  bool take(std::string_view token) {
    if (std::string_view(text_).substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  // What follows the end of a tag: "-%}" takes all white space, "%}" one newline, "+%}" nothing.
  bool take_end(std::string_view close, bool newline) {
    if (take(std::string("-").append(close))) {
      skip_space();
      return true;
    }
    if (newline && take(std::string("+").append(close))) return true;
    if (!take(close)) return false;
    if (newline && at_ < text_.size() && text_[at_] == '\n') advance(at_ + 1);
    return true;
  }

  void skip_comment() {
    const bool signed_begin =
        at_ + 2 < text_.size() && (text_[at_ + 2] == '-' || text_[at_ + 2] == '+');
    const size_t begin = at_ + (signed_begin ? 3 : 2);
    const size_t end = text_.find("#}", begin);
    if (end == kNoPlace) fail("a comment does not end, expected #}");
    const char sign = end > begin ? text_[end - 1] : '\0';
    advance(end);
    at_ = end + 2;
    if (sign == '-') {
      skip_space();
    } else if (sign != '+' && at_ < text_.size() && text_[at_] == '\n') {
      advance(at_ + 1);
    }
  }

  // Where the text after {% raw %} begins, kNoPlace if this is another tag.
  size_t raw_body(size_t open) const { return tag_named("raw", open, false); }

  size_t tag_named(std::string_view tag, size_t open, bool newline) const {
    if (text_[open + 1] != '%') return kNoPlace;
    size_t at = open + 2;
    const auto space = [&] {
      while (at < text_.size() && is_space(utf8_char(text_.data() + at))) {
        at += utf8_length(static_cast<unsigned char>(text_[at]));
      }
    };
    if (at < text_.size() && (text_[at] == '-' || text_[at] == '+')) ++at;
    space();
    if (text_.compare(at, tag.size(), tag) != 0) return kNoPlace;
    at += tag.size();
    space();
    const bool minus = text_.compare(at, 1, "-") == 0;
    const bool plus = newline && text_.compare(at, 1, "+") == 0;
    if (minus || plus) ++at;
    if (text_.compare(at, 2, "%}") != 0) return kNoPlace;
    at += 2;
    if (minus) {
      space();
    } else if (newline && !plus && text_.compare(at, 1, "\n") == 0) {
      ++at;
    }
    return at;
  }

  void read_raw(size_t body) {
    advance(body);
    for (size_t open = text_.find("{%", at_); open != kNoPlace; open = text_.find("{%", open + 1)) {
      const size_t after = tag_named("endraw", open, true);
      if (after == kNoPlace) continue;
      std::string data = text_.substr(at_, open - at_);
      trim_before(data, '%', text_[open + 2], text_[at_ - 1] == '\n');
      push_text(data);
      advance(after);
      return;
    }
    fail("{% raw %} does not end, expected {% endraw %}");
  }

  void read_tag(bool block, bool sign) {
    push(block ? TokenKind::kTagBegin : TokenKind::kPrintBegin);
    at_ += sign ? 3 : 2;
    std::string brackets;  // open ones: inside them "}}" and "%}" are no ends
    const std::string_view close = block ? "%}" : "}}";
    for (;;) {
      const int32_t line = line_;
      if (brackets.empty() && take_end(close, block)) {
        push(block ? TokenKind::kTagEnd : TokenKind::kPrintEnd, {}, line);
        return;
      }
      if (at_ >= text_.size()) fail("a tag does not end, expected ", close);
      const char c = text_[at_];
      if (is_space(utf8_char(text_.data() + at_))) {
        skip_space();
      } else if (is_decimal(c)) {
        read_number();
      } else if (is_name_start(c)) {
        const size_t begin = at_;
        while (at_ < text_.size() && is_name_part(text_[at_])) ++at_;
        push(TokenKind::kName, text_.substr(begin, at_ - begin));
      } else if (c == '\'' || c == '"') {
        read_string(c);
      } else {
        read_operator(brackets);
      }
    }
  }

  void read_operator(std::string& brackets) {
    for (const char* two : {"//", "**", "==", "!=", ">=", "<="}) {
      if (take(two)) {
        push(TokenKind::kOperator, two);
        return;
      }
    }
    const char c = text_[at_];
    if (std::string_view("+-*/%~[](){}<>=.:|,").find(c) == kNoPlace) {
      fail("unexpected character '", text_.substr(at_, utf8_length(static_cast<unsigned char>(c))),
           "' in a tag, expected a name, a value or an operator");
    }
    if (const size_t kind = std::string_view("([{").find(c); kind != kNoPlace) {
      brackets += ")]}"[kind];
    } else if (std::string_view(")]}").find(c) != kNoPlace) {
      if (brackets.empty()) fail("unexpected '", c, "', expected no closing bracket here");
      if (brackets.back() != c) fail("unexpected '", c, "', expected '", brackets.back(), "'");
      brackets.pop_back();
    }
    ++at_;
    push(TokenKind::kOperator, std::string(1, c));
  }

  // Digits with single underscores between them.
  std::string digits(int base) {
    std::string out;
    for (;; ++at_) {
      const char c = at_ < text_.size() ? text_[at_] : '\0';
      const bool good = base == 16 ? std::isxdigit(static_cast<unsigned char>(c)) != 0
                                   : c >= '0' && c < '0' + base;
      if (good) {
        out += c;
      } else if (c != '_' || out.empty() || at_ + 1 >= text_.size() ||
                 std::isxdigit(static_cast<unsigned char>(text_[at_ + 1])) == 0) {
        return out;
      }
    }
  }

  void read_number() {
    int base = 10;
    if (text_[at_] == '0' && at_ + 1 < text_.size()) {
      const char letter = static_cast<char>(text_[at_ + 1] | 0x20);
      base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
      if (base != 10) at_ += 2;
    }
    const bool after_dot = at_ > 0 && text_[at_ - 1] == '.';  // x.0.1 are two indices
    std::string text = digits(base);
    const auto digit_at = [&](size_t at) { return at < text_.size() && is_decimal(text_[at]); };
    bool is_float = false;
    if (base == 10 && !after_dot) {
      if (at_ < text_.size() && text_[at_] == '.' && digit_at(at_ + 1)) {
        ++at_;
        text += "." + digits(10);
        is_float = true;
      }
      if (at_ < text_.size() && (text_[at_] | 0x20) == 'e') {
        const bool sign =
            at_ + 1 < text_.size() && (text_[at_ + 1] == '+' || text_[at_ + 1] == '-');
        if (digit_at(at_ + 1 + (sign ? 1 : 0))) {
          text += 'e';
          if (sign) text += text_[at_ + 1];
          at_ += sign ? 2 : 1;
          text += digits(10);
          is_float = true;
        }
      }
    }
    Token& token = push(is_float ? TokenKind::kFloat : TokenKind::kInteger, text);
    if (is_float) {
      token.number = std::strtod(text.c_str(), nullptr);
      return;
    }
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), token.integer, base);
    if (error != std::errc() || end != text.data() + text.size()) {
      fail("the integer ", text, " is too large or broken, expected one below 2^63");
    }
  }

  uint32_t hex_escape(size_t count) {
    uint32_t value = 0;
    const auto [end, error] = std::from_chars(
        text_.data() + at_, text_.data() + std::min(at_ + count, text_.size()), value, 16);
    if (error != std::errc() || end != text_.data() + at_ + count) {
      fail("an escape in a string is broken, expected ", count, " hexadecimal digits");
    }
    at_ += count;
    return value;
  }

  // After the backslash; what Python's "unicode_escape" makes of it.
  void read_escape(std::string& value) {
    const char c = text_[at_++];
    constexpr std::string_view kLetters = "nrtabfv\\'\"", kMeant = "\n\r\t\a\b\f\v\\'\"";
    if (const size_t known = kLetters.find(c); known != kNoPlace) {
      value += kMeant[known];
    } else if (c == '\n') {
      ++line_;
    } else if (c >= '0' && c <= '7') {
      uint32_t code = static_cast<uint32_t>(c - '0');
      for (int i = 0; i < 2 && at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '7'; ++i) {
        code = code * 8 + static_cast<uint32_t>(text_[at_++] - '0');
      }
      append_utf8(value, code);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const uint32_t code = hex_escape(c == 'x' ? 2 : c == 'u' ? 4 : 8);
      if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        fail("an escape in a string names ", code, ", expected a Unicode character");
      }
      append_utf8(value, code);
    } else if (c == 'N') {
      fail("\\N{...} in a string is not supported, expected \\u and the number");
    } else {
      value += '\\';
      value += c;
    }
  }

  void read_string(char quote) {
    const int32_t line = line_;
    std::string value;
    ++at_;
    for (;;) {
      if (at_ >= text_.size()) {
        line_ = line;
        fail("a string does not end, expected ", quote);
      }
      const char c = text_[at_++];
      if (c == quote) break;
      if (c == '\\' && at_ < text_.size()) {
        read_escape(value);
      } else {
        if (c == '\n') ++line_;
        value += c;
      }
    }
    push(TokenKind::kString, std::move(value), line);
  }

  void push_text(std::string& data) {
    if (!data.empty()) push(TokenKind::kText, std::move(data));
  }
  Token& push(TokenKind kind, std::string text = {}, int32_t line = 0) {
    tokens_.push_back({kind, line == 0 ? line_ : line, std::move(text), 0, 0});
    return tokens_.back();
  }

  const std::string& name_;
  std::string text_;
  size_t at_ = 0;
  int32_t line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, const std::string& name) {
  return Lexer(source, name).run();
}

std::string shown(const Token& token) {
  switch (token.kind) {
    case TokenKind::kText:
      return "text";
    case TokenKind::kTagBegin:
      return "{%";
    case TokenKind::kTagEnd:
      return "%}";
    case TokenKind::kPrintBegin:
      return "{{";
    case TokenKind::kPrintEnd:
      return "}}";
    case TokenKind::kString:
      return "a string";
    case TokenKind::kEnd:
      return "the end of the template";
    default:
      return "'" + (token.text.size() > 40 ? token.text.substr(0, 40) : token.text) + "'";
  }
}

}  // namespace hadal::jinja
