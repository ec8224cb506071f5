#include "text/jinja/python_text.h"

#include <algorithm>

#include "text/jinja/case_tables.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace hadal::jinja {
namespace {

constexpr auto npos = std::string_view::npos;

CodePointSet categories(std::initializer_list<const char*> names) {
  CodePointSet set;
  for (const char* name : names) set = set | unicode_property(name).value();
  return set;
}

size_t width(std::string_view text, size_t at) {
  return utf8_length(static_cast<unsigned char>(text[at]));
}

size_t previous(std::string_view text, size_t end) {
  do {
    --end;
  } while ((static_cast<unsigned char>(text[end]) & 0xc0u) == 0x80u);
  return end;
}

bool is_line_break(char32_t c) {
  return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

// Knuth, Morris, Pratt: a text made to be slow to search is not.
size_t find_long(std::string_view text, std::string_view needle, size_t from) {
  std::vector<uint32_t> back(needle.size() + 1, 0);
  for (size_t i = 1, k = 0; i < needle.size(); ++i) {
    while (k > 0 && needle[i] != needle[k]) k = back[k];
    if (needle[i] == needle[k]) ++k;
    back[i + 1] = static_cast<uint32_t>(k);
  }
  for (size_t i = from, k = 0; i < text.size(); ++i) {
    while (k > 0 && text[i] != needle[k]) k = back[k];
    if (text[i] == needle[k]) ++k;
    if (k == needle.size()) return i + 1 - k;
  }
  return npos;
}

const CaseRun* run_of(const CaseRun* runs, int64_t size, char32_t c) {
  const CaseRun* end = runs + size;
  const CaseRun* run = std::lower_bound(
      runs, end, c, [](const CaseRun& each, char32_t value) { return each.last < value; });
  return run != end && c >= run->first && (c - run->first) % run->stride == 0 ? run : nullptr;
}

enum class Case { kUpper, kLower, kTitle };

void append_in_case(std::string& out, char32_t c, Case which) {
  if (c < 0x80) {
    const bool small = c >= 'a' && c <= 'z', large = c >= 'A' && c <= 'Z';
    out += static_cast<char>(which == Case::kLower ? (large ? c + 32 : c) : small ? c - 32 : c);
    return;
  }
  for (int64_t i = 0; i < kCaseSpecialsSize; ++i) {
    if (kCaseSpecials[i].code_point != c) continue;
    for (const char32_t each : kCaseSpecials[i].to[static_cast<int>(which)]) {
      if (each != 0) append_utf8(out, each);
    }
    return;
  }
  const CaseRun* run = which == Case::kLower   ? run_of(kLowerRuns, kLowerRunsSize, c)
                       : which == Case::kUpper ? run_of(kUpperRuns, kUpperRunsSize, c)
                                               : run_of(kTitleRuns, kTitleRunsSize, c);
  append_utf8(out, run == nullptr ? c : static_cast<char32_t>(int64_t{c} + run->delta));
}

bool is_cased(char32_t c) {
  static const CodePointSet set = categories({"Lu", "Ll", "Lt"});
  return set.contains(c);
}

bool is_case_ignorable(char32_t c) {
  static const CodePointSet set = categories({"Mn", "Me", "Cf", "Lm", "Sk"});
  return set.contains(c) || c == '\'' || c == '.' || c == ':' || c == 0xb7 || c == 0x2019;
}

// A sigma after a letter and not before one is written as at the end of a word.
bool is_final_sigma(std::string_view text, size_t at) {
  size_t begin = at;
  bool before = false;
  while (begin > 0) {
    begin = previous(text, begin);
    const char32_t c = utf8_char(text.data() + begin);
    if (is_case_ignorable(c)) continue;
    before = is_cased(c);
    break;
  }
  if (!before) return false;
  for (size_t end = at + width(text, at); end < text.size(); end += width(text, end)) {
    const char32_t c = utf8_char(text.data() + end);
    if (is_case_ignorable(c)) continue;
    return !is_cased(c);
  }
  return true;
}

void append_lower(std::string& out, std::string_view text, size_t at) {
  constexpr char32_t kSigma = 0x3a3, kFinalSigma = 0x3c2;
  const char32_t c = utf8_char(text.data() + at);
  if (c == kSigma && is_final_sigma(text, at)) {
    append_utf8(out, kFinalSigma);
  } else {
    append_in_case(out, c, Case::kLower);
  }
}

}  // namespace

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

bool is_printable(char32_t c) {
  static const CodePointSet hidden = categories({"Cc", "Cf", "Co", "Cn", "Zl", "Zp", "Zs"});
  return c < 0x7f ? c >= 0x20 : !hidden.contains(c);
}

bool is_alpha(char32_t c) {
  static const CodePointSet set = categories({"Lu", "Ll", "Lt", "Lm", "Lo"});
  return set.contains(c);
}

bool is_digit(char32_t c) {
  static const CodePointSet set = categories({"Nd"});
  return set.contains(c);
}

bool is_alnum(char32_t c) {
  static const CodePointSet set = categories({"Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No"});
  return set.contains(c);
}

bool is_upper(char32_t c) {
  static const CodePointSet set = categories({"Lu"});
  return set.contains(c);
}

bool is_lower(char32_t c) {
  static const CodePointSet set = categories({"Ll"});
  return set.contains(c);
}

int64_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xc0u) != 0x80u;
  });
}

size_t byte_offset(std::string_view text, int64_t character) {
  size_t at = 0;
  for (; character > 0 && at < text.size(); --character) at += width(text, at);
  return at;
}

size_t find_text(std::string_view text, std::string_view needle, size_t from, Budget& budget) {
  constexpr size_t kLong = 16;
  const size_t found =
      needle.size() > kLong ? find_long(text, needle, from) : text.find(needle, from);
  budget.scan((found == npos ? text.size() : found + needle.size()) - std::min(from, text.size()));
  return found;
}

size_t rfind_text(std::string_view text, std::string_view needle, Budget& budget) {
  budget.scan(text.size() * (1 + needle.size() / 8));
  return text.rfind(needle);
}

std::string_view strip(std::string_view text, std::optional<std::string_view> chars, bool left,
                       bool right) {
  const auto taken = [&](size_t at) {
    if (!chars) return is_space(utf8_char(text.data() + at));
    return chars->find(text.substr(at, width(text, at))) != npos;
  };
  while (left && !text.empty() && taken(0)) text.remove_prefix(width(text, 0));
  while (right && !text.empty()) {
    const size_t last = previous(text, text.size());
    if (!taken(last)) break;
    text.remove_suffix(text.size() - last);
  }
  return text;
}

std::vector<std::string> split(std::string_view text, std::optional<std::string_view> separator,
                               int64_t most, Budget& budget) {
  budget.make(text.size());
  std::vector<std::string> parts;
  if (separator) {
    HADAL_CHECK(!separator->empty(), kFormat, "split with an empty separator, expected text");
    size_t begin = 0;
    while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
      const size_t end = find_text(text, *separator, begin, budget);
      if (end == npos) break;
      budget.make(sizeof(std::string));
      parts.emplace_back(text.substr(begin, end - begin));
      begin = end + separator->size();
    }
    parts.emplace_back(text.substr(begin));
    return parts;
  }
  text = strip(text, {}, true, false);
  while (!text.empty()) {
    budget.make(sizeof(std::string));
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.emplace_back(text);
      break;
    }
    size_t end = 0;
    while (end < text.size() && !is_space(utf8_char(text.data() + end))) end += width(text, end);
    parts.emplace_back(text.substr(0, end));
    text = strip(text.substr(end), {}, true, false);
  }
  return parts;
}

std::vector<std::string> rsplit(std::string_view text, std::optional<std::string_view> separator,
                                int64_t most, Budget& budget) {
  budget.make(text.size());
  std::vector<std::string> parts;
  if (separator) {
    HADAL_CHECK(!separator->empty(), kFormat, "rsplit with an empty separator, expected text");
    while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
      budget.make(sizeof(std::string) + separator->size());
      const size_t at = text.rfind(*separator);
      budget.scan((at == npos ? text.size() : text.size() - at) * (1 + separator->size() / 8));
      if (at == npos) break;
      parts.emplace_back(text.substr(at + separator->size()));
      text = text.substr(0, at);
    }
    parts.emplace_back(text);
  } else {
    text = strip(text, {}, false, true);
    while (!text.empty()) {
      budget.make(sizeof(std::string));
      if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
        parts.emplace_back(text);
        break;
      }
      size_t begin = text.size();
      while (begin > 0) {
        const size_t last = previous(text, begin);
        if (is_space(utf8_char(text.data() + last))) break;
        begin = last;
      }
      parts.emplace_back(text.substr(begin));
      text = strip(text.substr(0, begin), {}, false, true);
    }
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    size_t next = at + width(text, at);
    if (is_line_break(utf8_char(text.data() + at))) {
      if (text[at] == '\r' && next < text.size() && text[next] == '\n') ++next;
      lines.emplace_back(text.substr(begin, (keep_ends ? next : at) - begin));
      begin = next;
    }
    at = next;
  }
  if (begin < text.size()) lines.emplace_back(text.substr(begin));
  return lines;
}

std::string replace(std::string_view text, std::string_view old_text, std::string_view new_text,
                    int64_t most, Budget& budget) {
  std::string out;
  size_t begin = 0;
  for (int64_t done = 0; most < 0 || done < most; ++done) {
    size_t end = begin;
    if (!old_text.empty()) {
      end = find_text(text, old_text, begin, budget);
      if (end == npos) break;
    } else if (done > 0) {  // before every character and at the end
      if (begin >= text.size()) break;
      end = begin + width(text, begin);
    }
    budget.make(end - begin + new_text.size());
    out.append(text, begin, end - begin);
    out += new_text;
    begin = end + old_text.size();
  }
  budget.make(text.size() - begin);
  out.append(text, begin);
  return out;
}

std::string upper(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size(); at += width(text, at)) {
    append_in_case(out, utf8_char(text.data() + at), Case::kUpper);
  }
  return out;
}

std::string lower(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size(); at += width(text, at)) append_lower(out, text, at);
  return out;
}

std::string capitalize(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size(); at += width(text, at)) {
    if (at == 0) {
      append_in_case(out, utf8_char(text.data()), Case::kTitle);
    } else {
      append_lower(out, text, at);
    }
  }
  return out;
}

std::string title(std::string_view text) {
  std::string out;
  bool inside = false;
  for (size_t at = 0; at < text.size(); at += width(text, at)) {
    const char32_t c = utf8_char(text.data() + at);
    if (inside) {
      append_lower(out, text, at);
    } else {
      append_in_case(out, c, Case::kTitle);
    }
    inside = is_cased(c);
  }
  return out;
}

std::string swap_case(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size(); at += width(text, at)) {
    const char32_t c = utf8_char(text.data() + at);
    if (is_upper(c)) {
      append_lower(out, text, at);
    } else {
      append_in_case(out, c, is_lower(c) ? Case::kUpper : Case::kLower);
    }
  }
  return out;
}

}  // namespace hadal::jinja
