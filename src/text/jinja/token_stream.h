#pragma once
#include <string>
#include <vector>

#include "core/error.h"
#include "text/jinja/lexer.h"

namespace hadal::jinja {

// The tokens of a template with a place among them.
class TokenStream {
 public:
  TokenStream(std::vector<Token> tokens, std::string name)
      : tokens_(std::move(tokens)), name_(std::move(name)) {}

  const Token& peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  const Token& next() {
    const Token& token = peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool at_operator(std::string_view text, size_t ahead = 0) const {
    return peek(ahead).kind == TokenKind::kOperator && peek(ahead).text == text;
  }
  bool at_name(std::string_view text, size_t ahead = 0) const {
    return peek(ahead).kind == TokenKind::kName && peek(ahead).text == text;
  }
  bool skip_operator(std::string_view text) { return at_operator(text) && (next(), true); }
  bool skip_name(std::string_view text) { return at_name(text) && (next(), true); }
  std::string expect_name(std::string_view what) {
    if (peek().kind != TokenKind::kName) fail(what);
    return next().text;
  }
  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) fail(str("'", text, "'"));
  }
  void expect(TokenKind kind, std::string_view what) {
    if (peek().kind != kind) fail(what);
    next();
  }

  // "NAME: line 3: found 'x', expected ..."
  [[noreturn]] void fail(std::string_view expected) const {
    error(peek().line, str("found ", shown(peek()), ", expected ", expected));
  }
  [[noreturn]] void error(int32_t line, const std::string& message) const {
    throw Error(ErrorKind::kFormat, str(name_, ": line ", line, ": ", message));
  }

  size_t place() const { return at_; }
  void go_to(size_t place) { at_ = place; }

 private:
  std::vector<Token> tokens_;
  std::string name_;
  size_t at_ = 0;
};

}  // namespace hadal::jinja
