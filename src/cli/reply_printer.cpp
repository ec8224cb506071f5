#include "cli/reply_printer.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <string_view>

namespace hadal {

ReplyPrinter::ReplyPrinter(bool thinking) : color_(isatty(STDOUT_FILENO) != 0) {
  dim(thinking);
}

ReplyPrinter::~ReplyPrinter() {
  std::cout << held_;
  dim(false);
  std::cout << std::flush;
}

void ReplyPrinter::print(const std::string& piece) {
  held_ += piece;
  for (;;) {
    const std::string_view mark = dimmed_ ? "</think>" : "<think>";
    const size_t at = held_.find(mark);
    if (at == held_.npos) break;
    if (!dimmed_) {
      std::cout << held_.substr(0, at);
      held_.erase(0, at);
      dim(true);
      std::cout << mark;
      held_.erase(0, mark.size());
    } else {
      std::cout << held_.substr(0, at + mark.size());
      held_.erase(0, at + mark.size());
      dim(false);
    }
  }
  const std::string_view mark = dimmed_ ? "</think>" : "<think>";
  size_t keep = std::min(held_.size(), mark.size() - 1);
  while (!mark.starts_with(std::string_view(held_).substr(held_.size() - keep))) --keep;
  std::cout << held_.substr(0, held_.size() - keep) << std::flush;
  held_.erase(0, held_.size() - keep);
}

void ReplyPrinter::dim(bool on) {
  if (color_ && on != dimmed_) std::cout << (on ? "\x1b[2m" : "\x1b[0m");
  dimmed_ = on;
}

}  // namespace hadal
