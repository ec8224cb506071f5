#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hadal {

// The alphabet in which byte-level tokenizers spell bytes: printable bytes of Latin-1 stand for
// themselves, the other 68 for U+0100 and on in order ("Ġ", U+0120, is the space).

// The character that spells `byte`.
char32_t byte_level_char(uint8_t byte);
// The byte that the character spells, if any.
std::optional<uint8_t> byte_level_byte(char32_t c);

std::string to_byte_level(std::string_view bytes);
// The bytes that a token spells; nothing when a character of it is not of the alphabet.
std::optional<std::string> from_byte_level(std::string_view token);

}  // namespace hadal
