#pragma once
#include <cstdint>

#include "core/error.h"

namespace hadal::jinja {

// What one rendering may use. A template is a program from a stranger: it must end soon and stay
// small, whatever it says.
struct Limits {
  int64_t steps = 8'000'000;           // instructions, and bytes looked at (a step for every 32)
  int64_t bytes = int64_t{256} << 20;  // of all values made, whether still there or not
  int64_t output_bytes = int64_t{32} << 20;
  int64_t macro_depth = 100;
};

class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits) {}

  void spend(int64_t steps) {
    steps_ += steps;
    HADAL_CHECK(steps_ <= limits_.steps, kFormat, "the template takes more than ", limits_.steps,
                " steps, expected one that ends sooner");
  }
  void scan(size_t bytes) { spend(1 + static_cast<int64_t>(bytes / 32)); }
  void make(size_t bytes) {
    HADAL_CHECK(bytes <= static_cast<size_t>(limits_.bytes - bytes_), kFormat,
                "the template makes values of more than ", limits_.bytes,
                " bytes in all, expected fewer");
    bytes_ += static_cast<int64_t>(bytes);
    scan(bytes);
  }
  const Limits& limits() const { return limits_; }

 private:
  Limits limits_;
  int64_t steps_ = 0, bytes_ = 0;
};

}  // namespace hadal::jinja
