#pragma once
#include <optional>
#include <string>
#include <vector>

#include "cli/generation.h"

namespace hadal {

// Shows texts in the order in which they were asked for, the first of them as it comes: prompt by
// prompt, sample by sample. Speeds go to standard error.
class TextPrinter {
 public:
  // json: one object a text, when it has ended. The prompts must outlive the printer.
  TextPrinter(const std::vector<std::string>& prompts, int64_t samples, bool json);
  void piece(size_t text, const std::string& piece);
  void end(size_t text, const GeneratedText& out);

 private:
  struct Text {
    std::string held;
    std::optional<GeneratedText> out;
  };
  const std::string& prompt() const { return prompts_[current_ / size_t(samples_)]; }
  void begin() const;
  void finish(const GeneratedText& out) const;

  const std::vector<std::string>& prompts_;
  int64_t samples_;
  bool json_;
  std::vector<Text> texts_;
  size_t current_ = 0;
};

}  // namespace hadal
