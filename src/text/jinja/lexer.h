#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::jinja {

enum class TokenKind {
  kText,        // outside of tags, white space already trimmed
  kTagBegin,    // {%
  kTagEnd,      // %}
  kPrintBegin,  // {{
  kPrintEnd,    // }}
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,  // text is the operator
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int32_t line = 1;
  std::string text;  // of a string: its value
  int64_t integer = 0;
  double number = 0;
};

// The tokens of a template, kEnd last, as Jinja2 reads it with trim_blocks and lstrip_blocks: the
// newline after a tag is dropped, and so is white space before a tag that begins a line.
// Error{kFormat} begins with `name` and the line.
std::vector<Token> tokenize(std::string_view source, const std::string& name);

// A token as a message shows it.
std::string shown(const Token& token);

}  // namespace hadal::jinja
