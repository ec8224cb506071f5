#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "core/json.h"
#include "infer/generator.h"
#include "model/pretrained.h"
#include "text/tokenizer.h"

namespace hadal {

struct GeneratedText {
  std::string text;
  std::vector<int32_t> ids;  // new tokens
  bool stopped = false;      // by a stop string
  GenerateStats stats;
};

// From text to text. End tokens are the model's. `special`: tokens such as <|EOT|> written in the
// prompt are meant. Pieces of text arrive as soon as they are certain. `stop` is asked after each
// token.
GeneratedText generate_text(Transformer& model, Generator& generator, const Tokenizer& tokenizer,
                            const std::string& prompt, GenerateOptions options,
                            const std::vector<std::string>& stops, bool special,
                            const std::function<void(const std::string&)>& on_text,
                            const std::function<bool()>& stop = {});

// A model folder with its tokenizer, from text to text.
class TextGenerator {
 public:
  explicit TextGenerator(const std::string& folder);
  Transformer& model() { return *pretrained_.model; }
  const Tokenizer& tokenizer() const { return tokenizer_; }

  // As generate_text, and Error{kIo} if the files under the weights were cut short meanwhile.
  GeneratedText generate(const std::string& prompt, GenerateOptions options,
                         const std::vector<std::string>& stops, bool special,
                         const std::function<void(const std::string&)>& on_text,
                         const std::function<bool()>& stop = {});

 private:
  Pretrained pretrained_;
  Tokenizer tokenizer_;
  Generator generator_;
};

// How text is drawn, as commands take it.
struct GenerationArgs {
  GenerateOptions options;
  std::vector<std::string> stops;
  std::string speculate = "auto", cache = "bf16";
};
void add_generation_args(CLI::App* command, GenerationArgs& args);
// After parsing. Error{kUsage} names what is out of range.
void finish_generation_args(GenerationArgs& args);

// "auto", "off" or a number of drafts; Error{kUsage} otherwise.
Speculation parse_speculation(const std::string& text);
OrderedJson generated_json(const std::string& prompt, const GeneratedText& out);
// "128 tokens, 85.2 tokens/s, 71% of 60 drafts accepted"
std::string speed_text(const GenerateStats& stats);

}  // namespace hadal
