#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace hadal {

// Cuts a stream of text at the first of several stop strings, holding back what may yet become one.
class StopStrings {
 public:
  // Empty strings are Error{kUsage}.
  explicit StopStrings(std::vector<std::string> stops);
  // Text that may be shown now. After stopped() is true nothing more comes.
  std::string push(std::string_view text);
  // What was held back, when the stream ends by itself.
  std::string flush();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace hadal
