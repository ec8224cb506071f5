#include "cli/text_printer.h"

#include <iostream>

#include "cli/options.h"

namespace hadal {

TextPrinter::TextPrinter(const std::vector<std::string>& prompts, int64_t samples, bool json)
    : prompts_(prompts),
      samples_(samples),
      json_(json),
      texts_(prompts.size() * static_cast<size_t>(samples)) {
  begin();
}

void TextPrinter::piece(size_t text, const std::string& piece) {
  if (json_) return;
  if (text == current_) {
    std::cout << piece << std::flush;
  } else {
    texts_[text].held += piece;
  }
}

void TextPrinter::end(size_t text, const GeneratedText& out) {
  texts_[text].out = out;
  while (current_ < texts_.size() && texts_[current_].out) {
    finish(*texts_[current_].out);
    texts_[current_++] = {};
    begin();
  }
}

void TextPrinter::begin() const {
  if (json_ || current_ == texts_.size()) return;
  std::cout << prompt() << texts_[current_].held << std::flush;
}

void TextPrinter::finish(const GeneratedText& out) const {
  if (json_) return print_json(generated_json(prompt(), out));
  std::cout << (texts_.size() > 1 ? "\n\n" : "\n") << std::flush;
  std::cerr << speed_text(out.stats) << "\n";
}

}  // namespace hadal
