#include "text/added_tokens.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace hadal {
namespace {

// "a|[7:<x>]|b": the pieces, with the ids of the added tokens.
std::string pieces(const std::vector<AddedToken>& tokens, const std::string& text) {
  std::vector<AddedTokens::Piece> found;
  AddedTokens(tokens).split(text, found);
  std::string result;
  for (const auto& piece : found) {
    if (!result.empty()) result += "|";
    result += piece.id < 0 ? std::string(piece.text) : str("[", piece.id, ":", piece.text, "]");
  }
  return result;
}

TEST(AddedTokens, LeftmostThenLongest) {
  const std::vector<AddedToken> tokens = {
      {.id = 1, .content = "<a>"}, {.id = 2, .content = "<a><b>"}, {.id = 3, .content = "><"}};
  EXPECT_EQ(pieces(tokens, "x<a>y"), "x|[1:<a>]|y");
  EXPECT_EQ(pieces(tokens, "<a><b>"), "[2:<a><b>]");
  EXPECT_EQ(pieces(tokens, "<a><c>"), "[1:<a>]|<c>");
  EXPECT_EQ(pieces(tokens, "<c><a>"), "<c|[3:><]|a>");
  EXPECT_EQ(pieces(tokens, "<a<a>"), "<a|[1:<a>]");
  EXPECT_EQ(pieces(tokens, ""), "");
  EXPECT_EQ(pieces({}, "<a>"), "<a>");
}

TEST(AddedTokens, NotNormalizedOnesAreSearchedFirst) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "abc"},
                                          {.id = 2, .content = "cd", .normalized = false}};
  EXPECT_EQ(pieces(tokens, "abcd abc"), "ab|[2:cd]| |[1:abc]");
}

TEST(AddedTokens, StripsTakeWhiteSpaceAlong) {
  const std::vector<AddedToken> tokens = {
      {.id = 1, .content = "<l>", .lstrip = true},
      {.id = 2, .content = "<r>", .rstrip = true},
      {.id = 3, .content = "<b>", .lstrip = true, .rstrip = true}};
  EXPECT_EQ(pieces(tokens, "x \t<l> y"), "x|[1: \t<l>]| y");
  EXPECT_EQ(pieces(tokens, "x <r>\u3000\n y"), "x |[2:<r>\u3000\n ]|y");
  EXPECT_EQ(pieces(tokens, " <b> <b> "), "[3: <b> ]|[3:<b> ]");
  EXPECT_EQ(pieces(tokens, "x\u200b<l>"), "x\u200b|[1:<l>]");
}

TEST(AddedTokens, SingleWordNeedsNoPartOfAWordBeside) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "ab", .single_word = true}};
  EXPECT_EQ(pieces(tokens, "ab (ab) ab"), "[1:ab]| (|[1:ab]|) |[1:ab]");
  EXPECT_EQ(pieces(tokens, "xab abx éab ab1 ab_"), "xab abx éab ab1 ab_");
  // A match that is discarded is used up all the same.
  EXPECT_EQ(pieces({{.id = 1, .content = "aa", .single_word = true}}, "aaaa"), "aaaa");
}

TEST(AddedTokens, WhiteSpaceTokensStayLinear) {
  const std::vector<AddedToken> tokens = {
      {.id = 1, .content = " ", .lstrip = true, .rstrip = true}};
  std::vector<AddedTokens::Piece> found;
  AddedTokens(tokens).split(std::string(1 << 19, ' '), found);
  EXPECT_EQ(found.size(), size_t{1} << 19);
}

}  // namespace
}  // namespace hadal
