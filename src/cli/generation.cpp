#include "cli/generation.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <charconv>

#include "infer/stop_strings.h"
#include "text/stream_decoder.h"

namespace hadal {
namespace {

constexpr int64_t kMostDrafts = 16;

double per_second(int64_t tokens, double seconds) {
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

// Weights as they are stored: BF16 and FP32 are used where they lie in the files.
Pretrained load(const std::string& folder) {
  ConfigWarnings warnings;
  Pretrained pretrained = load_pretrained(folder, {}, warnings);
  for (const std::string& line : warnings.lines) spdlog::warn("{}", line);
  return pretrained;
}

}  // namespace

TextGenerator::TextGenerator(const std::string& folder)
    : pretrained_(load(folder)),
      tokenizer_(Tokenizer::load(folder)),
      generator_(*pretrained_.model) {
}

GeneratedText generate_text(Transformer& model, Generator& generator, const Tokenizer& tokenizer,
                            const std::string& prompt, GenerateOptions options,
                            const std::vector<std::string>& stops, bool special,
                            const std::function<void(const std::string&)>& on_text,
                            const std::function<bool()>& stop) {
  const ModelConfig& config = model.config();
  options.vocabulary = std::min(tokenizer.vocab_size(), config.vocab_size);
  options.end_tokens = {config.eos_token_ids.begin(), config.eos_token_ids.end()};
  const auto prompt_ids =
      tokenizer.encode(prompt, {.special = special, .add_special_tokens = true});
  GeneratedText out;
  StreamDecoder decoder(tokenizer, true);
  StopStrings filter(stops);
  const auto show = [&](const std::string& piece) {
    if (piece.empty()) return;
    out.text += piece;
    on_text(piece);
  };
  out.stats = generator.generate(prompt_ids, options, [&](int32_t id) {
    out.ids.push_back(id);
    show(filter.push(decoder.push(id)));
    out.stopped = filter.stopped();
    return !out.stopped && !(stop && stop());
  });
  show(filter.push(decoder.flush()));
  show(filter.flush());
  return out;
}

GeneratedText TextGenerator::generate(const std::string& prompt, GenerateOptions options,
                                      const std::vector<std::string>& stops, bool special,
                                      const std::function<void(const std::string&)>& on_text,
                                      const std::function<bool()>& stop) {
  GeneratedText out = generate_text(*pretrained_.model, generator_, tokenizer_, prompt,
                                    std::move(options), stops, special, on_text, stop);
  pretrained_.check_intact();
  return out;
}

void add_generation_args(CLI::App* command, GenerationArgs& args) {
  auto& sampling = args.options.sampling;
  add_option(command, "-n,--max-tokens", args.options.max_tokens,
             fmt::format("new tokens at most ({})", args.options.max_tokens))
      .range(1, int64_t{1} << 30);
  add_option(command, "--temperature", sampling.temperature, "0: always the likeliest (1)");
  add_option(command, "--top-k", sampling.top_k, "keep the k likeliest (0: all)");
  add_option(command, "--top-p", sampling.top_p, "keep the likeliest that sum to p (1)");
  add_option(command, "--min-p", sampling.min_p, "keep what is this likely beside the best (0)");
  add_option(command, "--seed", sampling.seed, "of the random numbers (0)");
  add_option(command, "--stop", args.stops, "end before this text; repeatable")
      .type_name("TEXT")
      .repeatable();
  add_option(command, "--speculate", args.speculate, "auto, off, or drafts a step (auto)");
  add_option(command, "--cache-dtype", args.cache, "of the KV cache: bf16 or fp32 (bf16)")
      .one_of({"bf16", "fp32"});
}

void finish_generation_args(GenerationArgs& args) {
  args.options.speculation = parse_speculation(args.speculate);
  args.options.cache_dtype = args.cache == "fp32" ? DType::kF32 : DType::kBF16;
  check_sampling(args.options.sampling);
}

Speculation parse_speculation(const std::string& text) {
  if (text == "auto") return {Speculation::Mode::kAuto, 1};
  if (text == "off") return {Speculation::Mode::kOff, 0};
  int64_t drafts = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), drafts);
  HADAL_CHECK(error == std::errc() && end == text.data() + text.size() && drafts >= 1 &&
                  drafts <= kMostDrafts,
              kUsage, "--speculate \"", text, "\": expected auto, off or a number from 1 to ",
              kMostDrafts);
  return {Speculation::Mode::kFixed, drafts};
}

OrderedJson generated_json(const std::string& prompt, const GeneratedText& out) {
  const GenerateStats& s = out.stats;
  return {{"prompt", prompt},
          {"text", out.text},
          {"ids", out.ids},
          {"finish_reason", s.ended || out.stopped ? "stop" : "length"},
          {"prompt_tokens", s.prompt_tokens},
          {"tokens", s.tokens},
          {"steps", s.steps},
          {"drafted", s.drafted},
          {"accepted", s.accepted},
          {"acceptance", s.acceptance()},
          {"prompt_tokens_per_s", per_second(s.prompt_tokens, s.prompt_seconds)},
          {"tokens_per_s", per_second(s.tokens, s.decode_seconds)}};
}

std::string speed_text(const GenerateStats& s) {
  std::string text =
      fmt::format("{} tokens, {:.1f} tokens/s", s.tokens, per_second(s.tokens, s.decode_seconds));
  if (s.drafted > 0) {
    text += fmt::format(", {:.0f}% of {} drafts accepted", 100 * s.acceptance(), s.drafted);
  }
  return text;
}

}  // namespace hadal
