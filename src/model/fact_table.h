#pragma once
#include <cstdint>
#include <string>

namespace hadal {

// 671026404352 -> "671,026,404,352", "671.0B", and of bytes "671.0 GB".
std::string with_commas(int64_t n);
std::string short_count(int64_t n);
std::string short_bytes(int64_t n);

// Lines of a name, a number and a note, in columns, under titles.
class FactTable {
 public:
  void head(const std::string& title);
  // Left out when there is none of it.
  void row(const std::string& name, int64_t n, const std::string& note = {});
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace hadal
