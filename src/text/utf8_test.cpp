#include "text/utf8.h"

#include <gtest/gtest.h>

#include <vector>

namespace hadal {
namespace {

std::string bytes(std::initializer_list<int> list) {
  std::string text;
  for (const int byte : list) text += static_cast<char>(byte);
  return text;
}

TEST(Utf8, ReplacesMaximalSubpartsAsPythonDoes) {
  const std::string mark(kReplacementCharacter);
  struct Case {
    std::string in, out;
  };
  const std::vector<Case> cases = {
      {"", ""},
      {"plain \xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80",
       "plain \xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80"},
      {bytes({0x80}), mark},
      {bytes({0xff, 0xfe}), mark + mark},
      {bytes({0xc0, 0xaf}), mark + mark},                      // overlong: the lead stands alone
      {bytes({0xe0, 0x80, 0xaf}), mark + mark + mark},         // overlong, three bytes
      {bytes({0xed, 0xa0, 0x80}), mark + mark + mark},         // a surrogate
      {bytes({0xed, 0x9f, 0xbf}), bytes({0xed, 0x9f, 0xbf})},  // the last before them
      {bytes({0xf4, 0x90, 0x80, 0x80}), mark + mark + mark + mark},  // beyond U+10FFFF
      {bytes({0xf4, 0x8f, 0xbf, 0xbf}), bytes({0xf4, 0x8f, 0xbf, 0xbf})},
      {bytes({0xf0, 0x8f, 0x80, 0x80}), mark + mark + mark + mark},
      {bytes({0xe4, 0xb8}), mark},  // cut off: one mark for both bytes
      {bytes({0xf0, 0x9f, 0x98}), mark},
      {bytes({0xf0, 0x9f, 0x98, 'x'}), mark + "x"},
      {bytes({0xe4, 0xb8, 0xe4, 0xb8, 0xad}), mark + "\xe4\xb8\xad"},
      {bytes({0xf5, 0x80}), mark + mark},
      {bytes({'a', 0xc3, 'b'}), "a" + mark + "b"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(repair_utf8(c.in), c.out) << testing::PrintToString(c.in);
    EXPECT_EQ(is_utf8(c.in), c.in == c.out) << testing::PrintToString(c.in);
  }
}

// CRC-32 as zlib's.
uint32_t crc32(std::string_view text, uint32_t crc) {
  crc = ~crc;
  for (const char c : text) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

TEST(Utf8, AgreesWithPythonOnEverySequenceOfFourBorderBytes) {
  // python3 -c 'import zlib, itertools as i; b = [...]; c = 0
  // for s in i.product(b, repeat=4): c = zlib.crc32(bytes(s).decode("utf-8", "replace").encode(),
  // c)'
  const std::vector<int> borders = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
                                    0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee,
                                    0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff};
  uint32_t crc = 0;
  for (const int a : borders) {
    for (const int b : borders) {
      for (const int c : borders) {
        for (const int d : borders) crc = crc32(repair_utf8(bytes({a, b, c, d})), crc);
      }
    }
  }
  EXPECT_EQ(crc, 0x44843671u);
}

TEST(Utf8, DecodesAndAppendsEveryCodePoint) {
  for (char32_t c = 0; c <= 0x10ffff; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string text;
    append_utf8(text, c);
    const Utf8Unit unit = decode_utf8(text);
    ASSERT_TRUE(unit.valid && unit.code_point == c && unit.length == text.size()) << uint32_t(c);
    ASSERT_EQ(utf8_char(text.data()), c);
    ASSERT_EQ(utf8_length(static_cast<unsigned char>(text[0])), text.size());
    for (size_t n = 1; n < text.size(); ++n) {
      const Utf8Unit part = decode_utf8(std::string_view(text).substr(0, n));
      ASSERT_TRUE(part.truncated && !part.valid && part.length == n) << uint32_t(c);
    }
  }
}

}  // namespace
}  // namespace hadal
