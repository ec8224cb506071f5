#pragma once
#include <string>

namespace hadal {

// Shows a reply as it comes; on a terminal what stands between <think> and </think> is dimmed.
class ReplyPrinter {
 public:
  explicit ReplyPrinter(bool thinking);  // the prompt ended inside of it
  ~ReplyPrinter();
  ReplyPrinter(const ReplyPrinter&) = delete;
  ReplyPrinter& operator=(const ReplyPrinter&) = delete;
  void print(const std::string& piece);

 private:
  void dim(bool on);

  bool color_, dimmed_ = false;
  std::string held_;  // the end of the text, as long as it may become a mark
};

}  // namespace hadal
