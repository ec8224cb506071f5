#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/budget.h"

namespace hadal::jinja {

// Python's str, on valid UTF-8. Positions are bytes unless a name says characters.

bool is_space(char32_t c);      // str.isspace, and what strip() takes
bool is_printable(char32_t c);  // str.isprintable: what repr() shows as it is
bool is_alpha(char32_t c);
bool is_digit(char32_t c);
bool is_alnum(char32_t c);
bool is_upper(char32_t c);
bool is_lower(char32_t c);

int64_t count_characters(std::string_view text);
// Bytes before the character of this number; the length of the text when there are fewer.
size_t byte_offset(std::string_view text, int64_t character);

// Position of `needle` at or after `from`, npos if there is none. Linear time.
size_t find_text(std::string_view text, std::string_view needle, size_t from, Budget& budget);
size_t rfind_text(std::string_view text, std::string_view needle, Budget& budget);

// Without `chars`: white space.
std::string_view strip(std::string_view text, std::optional<std::string_view> chars, bool left,
                       bool right);
// most < 0: no limit. Without `separator`: runs of white space, none at the ends.
std::vector<std::string> split(std::string_view text, std::optional<std::string_view> separator,
                               int64_t most, Budget& budget);
std::vector<std::string> rsplit(std::string_view text, std::optional<std::string_view> separator,
                                int64_t most, Budget& budget);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);
std::string replace(std::string_view text, std::string_view old_text, std::string_view new_text,
                    int64_t most, Budget& budget);
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);
std::string swap_case(std::string_view text);

}  // namespace hadal::jinja
