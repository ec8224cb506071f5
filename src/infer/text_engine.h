#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "infer/engine.h"
#include "infer/stop_strings.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"

namespace hadal {

// Tokens to text, cut at the first stop string; pieces come as soon as they are certain.
class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, const std::vector<std::string>& stops)
      : decoder_(tokenizer, true), filter_(stops) {}
  std::string push(int32_t id) { return filter_.push(decoder_.push(id)); }
  std::string finish() {
    const std::string last = filter_.push(decoder_.flush());
    return last + filter_.flush();
  }
  bool stopped() const { return filter_.stopped(); }

 private:
  StreamDecoder decoder_;
  StopStrings filter_;
};

struct GeneratedText {
  std::string text;
  std::vector<int32_t> ids;  // new tokens
  Finish finish = Finish::kLength;
  SampleStats stats;
};

struct TextRequest {
  std::string prompt;
  bool special = true;  // tokens such as <|EOT|> written in the prompt are meant
  Request request;      // the prompt's ids, end tokens, vocabulary and callbacks are filled in
  std::vector<std::string> stops = {};
  // Called while run() runs: the sample's number and what is new of it; then, once, all of it.
  std::function<void(int64_t sample, const std::string& piece)> on_text = {};
  std::function<void(int64_t sample, const GeneratedText& text)> on_end = {};
};

// An engine from text to text, in the calling thread. End tokens are the model's.
class TextEngine {
 public:
  TextEngine(Transformer& model, const Tokenizer& tokenizer, const EngineOptions& options);

  // Errors as Engine::submit.
  void submit(TextRequest request);
  // Writes all that was submitted. `stop` is asked before each step; true cancels what is left.
  // Afterwards the first error of a text is thrown, the others having ended as they would.
  void run(const std::function<bool()>& stop = {});
  // Submits one request, runs, returns its first sample.
  GeneratedText generate(TextRequest request, const std::function<bool()>& stop = {});
  EngineStats stats() const { return engine_.stats(); }

 private:
  Transformer& model_;
  const Tokenizer& tokenizer_;
  Engine engine_;
  std::vector<Engine::RequestId> submitted_;
  std::optional<Error> failure_;
};

}  // namespace hadal
