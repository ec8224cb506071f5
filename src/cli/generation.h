#pragma once
#include <string>
#include <vector>

#include "cli/command.h"
#include "core/json.h"
#include "infer/text_engine.h"
#include "model/pretrained.h"

namespace hadal {

// A model folder with its tokenizer, from text to text.
class TextGenerator {
 public:
  // With options.cache_tokens = 0 the cache may take a quarter of this machine's memory.
  explicit TextGenerator(const std::string& folder, const EngineOptions& options = {},
                         bool allow_paging = false);
  Transformer& model() { return *pretrained_.model; }
  const Tokenizer& tokenizer() const { return tokenizer_; }

  // As TextEngine's, and Error{kIo} if the files under the weights were cut short meanwhile.
  void submit(TextRequest request) { engine_.submit(std::move(request)); }
  void run(const std::function<bool()>& stop = {});
  GeneratedText generate(TextRequest request, const std::function<bool()>& stop = {});
  EngineStats stats() const { return engine_.stats(); }

 private:
  Pretrained pretrained_;
  Tokenizer tokenizer_;
  TextEngine engine_;
};

// How text is drawn, as commands take it.
struct GenerationArgs {
  Request request;
  EngineOptions engine;
  std::vector<std::string> stops;
  std::string speculate = "auto";
  bool allow_paging = false;
};
void add_generation_args(CLI::App* command, GenerationArgs& args);
// After parsing. Error{kUsage} names what is out of range.
void finish_generation_args(GenerationArgs& args);

// "auto", "off" or a number of drafts; Error{kUsage} otherwise.
Speculation parse_speculation(const std::string& text);
OrderedJson generated_json(const std::string& prompt, const GeneratedText& out);
// "128 tokens, 85.2 tokens/s, 71% of 60 drafts accepted"
std::string speed_text(const SampleStats& stats);

}  // namespace hadal
