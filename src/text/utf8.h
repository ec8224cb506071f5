#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hadal {

// One UTF-8 character or one error at the start of some bytes.
struct Utf8Unit {
  char32_t code_point = 0;  // meaningless unless valid
  uint32_t length = 0;      // bytes of the character, or of the maximal part of one that is broken
  bool valid = false;
  bool truncated = false;  // not valid only because the bytes end here: more might complete it
};

// `bytes` is not empty. An invalid unit is what Unicode calls a maximal subpart: the part that one
// U+FFFD stands for in Python's bytes.decode("utf-8", "replace").
Utf8Unit decode_utf8(std::string_view bytes);

bool is_utf8(std::string_view bytes);

// The same bytes with every invalid unit replaced by U+FFFD, as Python and Rust do it.
std::string repair_utf8(std::string_view bytes);

void append_utf8(std::string& out, char32_t code_point);  // a scalar value, not a surrogate

// Bytes of the character that begins with `lead`, in text known to be valid.
inline size_t utf8_length(unsigned char lead) {
  return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

// The character at `at`, in text known to be valid.
inline char32_t utf8_char(const char* at) {
  const auto byte = [at](int i) { return static_cast<unsigned char>(at[i]); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return lead;
  if (lead < 0xe0) return (lead & 31) << 6 | (byte(1) & 63u);
  if (lead < 0xf0) return (lead & 15) << 12 | (byte(1) & 63u) << 6 | (byte(2) & 63u);
  return (lead & 7) << 18 | (byte(1) & 63u) << 12 | (byte(2) & 63u) << 6 | (byte(3) & 63u);
}

inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";  // U+FFFD

}  // namespace hadal
