#include "text/added_tokens.h"

#include "text/unicode.h"
#include "text/utf8.h"

namespace hadal {
namespace {

const char* previous_char(const char* p) {
  do {
    --p;
  } while ((static_cast<unsigned char>(*p) & 0xc0) == 0x80);
  return p;
}

bool is_word_part(char32_t c) {
  static const CodePointSet set = single_word_part();
  return set.contains(c);
}

bool is_space(char32_t c) {
  static const CodePointSet set = white_space();
  return set.contains(c);
}

bool ends_with_word(std::string_view text) {
  return !text.empty() && is_word_part(utf8_char(previous_char(text.data() + text.size())));
}

bool starts_with_word(std::string_view text) {
  return !text.empty() && is_word_part(utf8_char(text.data()));
}

// Where the white space at the end of `text` begins.
size_t trailing_space_begin(std::string_view text) {
  const char* p = text.data() + text.size();
  while (p != text.data() && is_space(utf8_char(previous_char(p)))) p = previous_char(p);
  return static_cast<size_t>(p - text.data());
}

size_t leading_space_size(std::string_view text) {
  const char* p = text.data();
  while (p != text.data() + text.size() && is_space(utf8_char(p))) {
    p += utf8_length(static_cast<unsigned char>(*p));
  }
  return static_cast<size_t>(p - text.data());
}

}  // namespace

AddedTokens::AddedTokens(const std::vector<AddedToken>& tokens) {
  for (const AddedToken& token : tokens) (token.normalized ? second_ : first_).add(token);
}

void AddedTokens::split(std::string_view text, std::vector<Piece>& pieces) const {
  if (first_.empty()) return second_.split(text, pieces);
  if (second_.empty()) return first_.split(text, pieces);
  std::vector<Piece> outer;
  first_.split(text, outer);
  for (const Piece& piece : outer) {
    if (piece.id >= 0) {
      pieces.push_back(piece);
    } else {
      second_.split(piece.text, pieces);
    }
  }
}

void AddedTokens::Finder::add(const AddedToken& token) {
  starts_[static_cast<unsigned char>(token.content[0])] = true;
  uint32_t node = 0;
  for (const char c : token.content) {
    const uint64_t edge = uint64_t{node} << 8 | static_cast<unsigned char>(c);
    const auto [entry, is_new] = edges_.emplace(edge, static_cast<uint32_t>(token_of_node_.size()));
    if (is_new) token_of_node_.push_back(-1);
    node = entry->second;
  }
  token_of_node_[node] = static_cast<int64_t>(tokens_.size());
  tokens_.push_back(token);
}

size_t AddedTokens::Finder::longest(std::string_view text, size_t& which) const {
  size_t length = 0;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto edge = edges_.find(uint64_t{node} << 8 | static_cast<unsigned char>(text[i]));
    if (edge == edges_.end()) break;
    node = edge->second;
    if (token_of_node_[node] >= 0) {
      which = static_cast<size_t>(token_of_node_[node]);
      length = i + 1;
    }
  }
  return length;
}

void AddedTokens::Finder::split(std::string_view text, std::vector<Piece>& pieces) const {
  if (text.empty()) return;
  if (empty()) {
    pieces.push_back({text, -1});
    return;
  }
  size_t done = 0;  // where the last token ended, with the white space it took
  size_t at = 0;
  size_t space_begin = 1;  // the white space that an rstrip found last; none yet
  size_t space_end = 0;
  while (at < text.size()) {
    if (!starts_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    size_t which = 0;
    const size_t length = longest(text.substr(at), which);
    if (length == 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[which];
    size_t begin = at;
    size_t end = at + length;
    at = end;  // a match is used up even when single_word discards it
    if (token.single_word &&
        (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) {
      continue;
    }
    if (token.lstrip && begin > done) {
      begin = done + trailing_space_begin(text.substr(done, begin - done));
    }
    if (token.rstrip) {
      // Tokens of white space ask for the same run again and again.
      if (end < space_begin || end > space_end) {
        space_begin = end;
        space_end = end + leading_space_size(text.substr(end));
      }
      end = space_end;
    }
    if (done < begin) pieces.push_back({text.substr(done, begin - done), -1});
    pieces.push_back({text.substr(begin, end - begin), token.id});
    done = end;
  }
  if (done < text.size()) pieces.push_back({text.substr(done), -1});
}

}  // namespace hadal
