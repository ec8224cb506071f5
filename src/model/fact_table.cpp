#include "model/fact_table.h"

#include <array>
#include <cstdio>

#include "core/error.h"

namespace hadal {
namespace {

struct Scale {
  double unit;
  const char* suffix;
};

std::string scaled(int64_t n, std::array<Scale, 4> scales, const char* plain) {
  std::array<char, 32> text{};
  const auto value = static_cast<double>(n);
  for (const Scale& s : scales) {
    if (value < s.unit) continue;
    std::snprintf(text.data(), text.size(), "%.1f%s", value / s.unit, s.suffix);
    return text.data();
  }
  std::snprintf(text.data(), text.size(), "%.0f%s", value, plain);
  return text.data();
}

}  // namespace

std::string with_commas(int64_t n) {
  const std::string digits = std::to_string(n);
  const size_t first = n < 0 ? 1 : 0;
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > first && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

std::string short_count(int64_t n) {
  return scaled(n, {{{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "K"}}}, "");
}

std::string short_bytes(int64_t n) {
  return scaled(n, {{{1e12, " TB"}, {1e9, " GB"}, {1e6, " MB"}, {1e3, " KB"}}}, " B");
}

void FactTable::head(const std::string& title) {
  text_ += str(text_.empty() ? "" : "\n", title, "\n");
}

void FactTable::row(const std::string& name, int64_t n, const std::string& note) {
  if (n == 0) return;
  std::array<char, 160> line{};
  std::snprintf(line.data(), line.size(), "  %-28s %21s  %s", name.c_str(), with_commas(n).c_str(),
                note.c_str());
  text_ += line.data();
  text_.erase(text_.find_last_not_of(' ') + 1);
  text_ += "\n";
}

}  // namespace hadal
