#include "core/hash.h"

#include <gtest/gtest.h>

#include <string_view>

namespace hadal {
namespace {

uint64_t hash(std::string_view text, size_t piece = 1000) {
  Hash64 h;
  for (size_t at = 0; at < text.size(); at += piece) {
    h.add(std::as_bytes(std::span(text.substr(at, piece))));
  }
  return h.value();
}

// Values of the algorithm's reference implementation.
TEST(Hash64, IsXxh64) {
  EXPECT_EQ(hash(""), 0xef46db3751d8e999u);
  EXPECT_EQ(hash("a"), 0xd24ec4f1a98c6e5bu);
  EXPECT_EQ(hash("abc"), 0x44bc2cf5ad770999u);
  EXPECT_EQ(hash("Nobody inspects the spammish repetition"), 0xfbcea83c8a378bf1u);
}

TEST(Hash64, DoesNotDependOnThePieces) {
  std::string text;
  for (int i = 0; i < 333; ++i) text += static_cast<char>(i * 7);
  const uint64_t whole = hash(text);
  for (size_t piece : {1u, 5u, 31u, 32u, 33u, 64u}) EXPECT_EQ(hash(text, piece), whole) << piece;
}

TEST(Hash64, Hex) {
  EXPECT_EQ(hex64(0x0123456789abcdefu), "0123456789abcdef");
}

}  // namespace
}  // namespace hadal
