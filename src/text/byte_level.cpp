#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace hadal {
namespace {

constexpr char32_t kFirstMoved = 0x100;

constexpr bool stands_for_itself(char32_t byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

constexpr std::array<char32_t, 256> make_chars() {
  std::array<char32_t, 256> chars{};
  char32_t next = kFirstMoved;
  for (char32_t byte = 0; byte < 256; ++byte) {
    chars[byte] = stands_for_itself(byte) ? byte : next++;
  }
  return chars;
}

constexpr std::array<char32_t, 256> kChars = make_chars();

constexpr std::array<uint8_t, 68> make_moved() {
  std::array<uint8_t, 68> moved{};
  for (size_t byte = 0; byte < 256; ++byte) {
    if (kChars[byte] >= kFirstMoved) moved[kChars[byte] - kFirstMoved] = static_cast<uint8_t>(byte);
  }
  return moved;
}

constexpr std::array<uint8_t, 68> kMoved = make_moved();

}  // namespace

char32_t byte_level_char(uint8_t byte) {
  return kChars[byte];
}

std::optional<uint8_t> byte_level_byte(char32_t c) {
  if (c < kFirstMoved) {
    return stands_for_itself(c) ? std::optional(static_cast<uint8_t>(c)) : std::nullopt;
  }
  return c < kFirstMoved + kMoved.size() ? std::optional(kMoved[c - kFirstMoved]) : std::nullopt;
}

std::string to_byte_level(std::string_view bytes) {
  std::string token;
  for (const char byte : bytes) append_utf8(token, kChars[static_cast<unsigned char>(byte)]);
  return token;
}

std::optional<std::string> from_byte_level(std::string_view token) {
  std::string bytes;
  for (const char* p = token.data(); p != token.data() + token.size();) {
    const auto byte = byte_level_byte(utf8_char(p));
    if (!byte) return std::nullopt;
    bytes += static_cast<char>(*byte);
    p += utf8_length(static_cast<unsigned char>(*p));
  }
  return bytes;
}

}  // namespace hadal
