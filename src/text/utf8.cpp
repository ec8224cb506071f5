#include "text/utf8.h"

#include <simdjson.h>

namespace hadal {

Utf8Unit decode_utf8(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {.code_point = lead, .length = 1, .valid = true};
  // The second byte alone decides what is too long, a surrogate or beyond U+10FFFF.
  uint32_t length = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xbf;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  } else {
    return {.length = 1};
  }
  char32_t code_point = lead & (0x7fu >> length);
  for (uint32_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {.length = i, .truncated = true};
    if (byte(i) < low || byte(i) > high) return {.length = i};
    code_point = code_point << 6 | (byte(i) & 63u);
    low = 0x80;
    high = 0xbf;
  }
  return {.code_point = code_point, .length = length, .valid = true};
}

bool is_utf8(std::string_view bytes) {
  return simdjson::validate_utf8(bytes.data(), bytes.size());
}

std::string repair_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() + 16);
  while (!bytes.empty()) {
    const Utf8Unit unit = decode_utf8(bytes);
    out += unit.valid ? bytes.substr(0, unit.length) : kReplacementCharacter;
    bytes.remove_prefix(unit.length);
  }
  return out;
}

void append_utf8(std::string& out, char32_t c) {
  const auto push = [&out](char32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) {
    push(c);
  } else if (c < 0x800) {
    push(0xc0 | c >> 6);
    push(0x80 | (c & 63));
  } else if (c < 0x10000) {
    push(0xe0 | c >> 12);
    push(0x80 | (c >> 6 & 63));
    push(0x80 | (c & 63));
  } else {
    push(0xf0 | c >> 18);
    push(0x80 | (c >> 12 & 63));
    push(0x80 | (c >> 6 & 63));
    push(0x80 | (c & 63));
  }
}

}  // namespace hadal
