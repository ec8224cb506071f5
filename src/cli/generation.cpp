#include "cli/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "cli/options.h"

namespace hadal {
namespace {

constexpr int64_t kMostDrafts = 16;

double per_second(int64_t tokens, double seconds) {
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

// What the cache may grow to where the caller said so, else one text of usual length.
ServingNeed need_of(const EngineOptions& options, const std::string& folder) {
  ServingNeed need{.cache_dtype = options.cache_dtype};
  if (options.cache_tokens == 0) return need;
  ConfigWarnings told_later;
  const int64_t longest = load_config(folder, told_later).max_position_embeddings;
  need.context = std::min(options.cache_tokens, longest);
  need.batch = (options.cache_tokens + longest - 1) / longest;
  return need;
}

EngineOptions with_limit(EngineOptions options, const Transformer& model) {
  if (options.cache_tokens > 0) return options;
  const int64_t memory = machine_memory().total;
  if (memory == 0) return options;  // nobody knows
  const int64_t token = KvCache(model.cache_specs(), options.cache_dtype).bytes_per_token();
  options.cache_tokens = std::max(memory / 4 / token, KvCache::kPageTokens);
  return options;
}

}  // namespace

TextGenerator::TextGenerator(const std::string& folder, const EngineOptions& options,
                             bool allow_paging)
    : pretrained_(load_for_serving(
          folder, {.serving = need_of(options, folder), .allow_paging = allow_paging})),
      tokenizer_(Tokenizer::load(folder)),
      engine_(*pretrained_.model, tokenizer_, with_limit(options, *pretrained_.model)) {
}

void TextGenerator::run(const std::function<bool()>& stop) {
  engine_.run(stop);
  pretrained_.check_intact();
}

GeneratedText TextGenerator::generate(TextRequest request, const std::function<bool()>& stop) {
  GeneratedText out = engine_.generate(std::move(request), stop);
  pretrained_.check_intact();
  return out;
}

void add_generation_args(CLI::App* command, GenerationArgs& args) {
  auto& sampling = args.request.sampling;
  add_option(command, "-n,--max-tokens", args.request.max_tokens,
             fmt::format("new tokens at most ({})", args.request.max_tokens))
      .range(1, int64_t{1} << 30);
  add_option(command, "--temperature", sampling.temperature, "0: always the likeliest (1)");
  add_option(command, "--top-k", sampling.top_k, "keep the k likeliest (0: all)");
  add_option(command, "--top-p", sampling.top_p, "keep the likeliest that sum to p (1)");
  add_option(command, "--min-p", sampling.min_p, "keep what is this likely beside the best (0)");
  add_option(command, "--presence-penalty", sampling.presence_penalty, "of tokens used before (0)");
  add_option(command, "--frequency-penalty", sampling.frequency_penalty, "for each use (0)");
  add_option(command, "--repetition-penalty", sampling.repetition_penalty,
             "divides logits of tokens used before or in the prompt (1)");
  add_option(command, "--seed", sampling.seed, "of the random numbers (0)");
  add_option(command, "--stop", args.stops, "end before this text; repeatable")
      .type_name("TEXT")
      .repeatable();
  add_option(command, "--speculate", args.speculate, "auto, off, or drafts a step (auto)");
  add_prompt_precision(command, args.engine.precision);
  add_option(command, "--draft-vocabulary", args.engine.draft_vocabulary,
             "draft among the N lowest token ids only, which are the most frequent: cheaper\n"
             "drafts, the same text (0: all)")
      .range(0, int64_t{1} << 31)
      .type_name("N");
  add_cache_dtype(
      command, [&args](DType dtype) { args.engine.cache_dtype = dtype; },
      "of the KV cache: bf16, fp32 or fp8 (bf16)");
  add_option(command, "--cache-tokens", args.engine.cache_tokens,
             "limit of the KV cache (as many as a quarter of the memory holds)")
      .range(1, int64_t{1} << 40);
  add_allow_paging(command, args.allow_paging);
}

void finish_generation_args(GenerationArgs& args) {
  args.request.speculation = parse_speculation(args.speculate);
  check_sampling(args.request.sampling);
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
  const SampleStats& s = out.stats;
  return {{"prompt", prompt},
          {"text", out.text},
          {"ids", out.ids},
          {"finish_reason", finish_name(out.finish)},
          {"prompt_tokens", s.prompt_tokens},
          {"cached_tokens", s.cached_tokens},
          {"tokens", s.tokens},
          {"steps", s.steps},
          {"drafted", s.drafted},
          {"accepted", s.accepted},
          {"acceptance", s.acceptance()},
          {"prompt_tokens_per_s", per_second(s.prompt_tokens - s.cached_tokens, s.prompt_seconds)},
          {"tokens_per_s", per_second(s.tokens, s.decode_seconds)}};
}

std::string speed_text(const SampleStats& s) {
  std::string text =
      fmt::format("{} tokens, {:.1f} tokens/s", s.tokens, per_second(s.tokens, s.decode_seconds));
  if (s.drafted > 0) {
    text += fmt::format(", {:.0f}% of {} drafts accepted", 100 * s.acceptance(), s.drafted);
  }
  return text;
}

}  // namespace hadal
