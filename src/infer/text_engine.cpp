#include "infer/text_engine.h"

#include <algorithm>
#include <utility>

namespace hadal {
namespace {

struct Sample {
  TextStream stream;
  GeneratedText out;
};

struct StreamedTexts {
  TextRequest request;  // its callbacks
  std::vector<Sample> samples;

  void show(int64_t sample, const std::string& piece) {
    if (piece.empty()) return;
    samples[static_cast<size_t>(sample)].out.text += piece;
    if (request.on_text) request.on_text(sample, piece);
  }
};

}  // namespace

TextEngine::TextEngine(Transformer& model, const Tokenizer& tokenizer, const EngineOptions& options)
    : model_(model), tokenizer_(tokenizer), engine_(model, options) {
}

void TextEngine::submit(TextRequest request) {
  const ModelConfig& config = model_.config();
  Request r = std::move(request.request);
  r.vocabulary = std::min(tokenizer_.vocab_size(), config.vocab_size);
  r.end_tokens = {config.eos_token_ids.begin(), config.eos_token_ids.end()};
  r.prompt =
      tokenizer_.encode(request.prompt, {.special = request.special, .add_special_tokens = true});
  auto texts = std::make_shared<StreamedTexts>();
  const TextStream begin(tokenizer_, request.stops);
  texts->samples.assign(static_cast<size_t>(std::max<int64_t>(r.samples, 0)), {begin, {}});
  texts->request = std::move(request);
  r.on_token = [texts](const NewToken& t) {
    Sample& s = texts->samples[static_cast<size_t>(t.sample)];
    s.out.ids.push_back(t.id);
    texts->show(t.sample, s.stream.push(t.id));
    return !s.stream.stopped();
  };
  r.on_end = [this, texts](const SampleEnd& e) {
    Sample& s = texts->samples[static_cast<size_t>(e.sample)];
    texts->show(e.sample, s.stream.finish());
    s.out.finish = e.finish;
    s.out.stats = e.stats;
    if (e.error && !failure_) failure_ = e.error;
    if (texts->request.on_end) texts->request.on_end(e.sample, s.out);
    s.out = {};  // it has been handed over
  };
  submitted_.push_back(engine_.submit(std::move(r)));
}

void TextEngine::run(const std::function<bool()>& stop) {
  bool stopped = false;
  for (bool more = true; more; more = engine_.step()) {
    if (stopped || !stop || !stop()) continue;
    stopped = true;
    for (Engine::RequestId id : submitted_) engine_.cancel(id);
  }
  submitted_.clear();
  if (failure_) throw *std::exchange(failure_, {});
}

GeneratedText TextEngine::generate(TextRequest request, const std::function<bool()>& stop) {
  auto out = std::make_shared<GeneratedText>();
  request.on_end = [out](int64_t sample, const GeneratedText& text) {
    if (sample == 0) *out = text;
  };
  submit(std::move(request));
  run(stop);
  return *out;
}

}  // namespace hadal
