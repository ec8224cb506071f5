// hadal score: how well a model predicts a text.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "cli/command.h"
#include "cli/options.h"
#include "core/error.h"
#include "model/divergence.h"
#include "model/pretrained.h"
#include "train/data.h"
#include "train/score.h"

namespace hadal {
namespace {

struct Options {
  std::string model, file, against;
  std::optional<DType> cache;
  ScoreOptions score;
  bool json = false;
};

Pretrained load_as_stored(const std::string& folder) {
  ConfigWarnings warnings;
  Pretrained loaded = load_pretrained(folder, {}, warnings);
  for (const std::string& line : warnings.lines) spdlog::warn("{}", line);
  return loaded;
}

int run_against(const Options& o) {
  const Pretrained model = load_as_stored(o.model), reference = load_as_stored(o.against);
  const Tokenizer tokenizer = Tokenizer::load(o.model);
  const DivergenceOptions options{o.score.context, o.score.precision, o.cache};
  Divergence divergence;
  const auto prefix = tokenizer.prefix_ids();
  read_documents(o.file, [&](std::string_view text) {
    std::vector<int32_t> ids(prefix.begin(), prefix.end());
    const std::vector<int32_t> body = tokenizer.encode(text, {.special = false});
    ids.insert(ids.end(), body.begin(), body.end());
    compare_document(*model.model, *reference.model, ids, options, divergence);
  });
  model.check_intact();
  reference.check_intact();
  const double mean = divergence.mean(), p99 = divergence.percentile(0.99);
  HADAL_CHECK(std::isfinite(mean), kFormat, o.model, " against ", o.against,
              ": predictions are not finite numbers");
  if (o.json) {
    print_json({{"mean_kl", mean},
                {"p99_kl", p99},
                {"top1_agreement", divergence.top_agreement()},
                {"tokens", divergence.kl.size()}});
  } else {
    fmt::print("mean KL           {:.6f}\n99th percentile   {:.6f}\n", mean, p99);
    fmt::print("same top token    {:.2f}%\ntokens            {}\n",
               100 * divergence.top_agreement(), divergence.kl.size());
  }
  return 0;
}

int run(const Options& o) {
  if (!o.against.empty()) return run_against(o);
  HADAL_CHECK(!o.cache, kUsage, "--cache-dtype says what to compare --against a model");
  const auto model = load_fp32_model(o.model, false);
  const Tokenizer tokenizer = Tokenizer::load(o.model);
  const Score score = score_file(*model, tokenizer, o.file, o.score);
  if (o.json) {
    print_json({{"bits_per_byte", score.bits_per_byte()},
                {"perplexity", score.perplexity()},
                {"nats", score.nats},
                {"tokens", score.tokens},
                {"bytes", score.bytes},
                {"documents", score.documents}});
  } else {
    fmt::print("bits per byte  {:.4f}\nperplexity     {:.3f}\ntokens         {}\n",
               score.bits_per_byte(), score.perplexity(), score.tokens);
    fmt::print("bytes          {}\ndocuments      {}\n", score.bytes, score.documents);
  }
  return 0;
}

}  // namespace

void add_score(Cli& cli) {
  CLI::App* command = add_command(
      cli, "score", "bits per byte and perplexity of a text",
      "  hadal score MODEL story.txt\n"
      "  hadal score MODEL stories.jsonl.zst --context 512 --stride 256 --json\n"
      "Each document is read alone. A long one is read in windows of --context tokens\n"
      "that move by --stride; every token counts once.\n"
      "  hadal score QUANTISED story.txt --against MODEL\n"
      "How far QUANTISED's predictions are from MODEL's: Kullback-Leibler divergence in\n"
      "nats a token, mean and 99th percentile, and how often both prefer the same token;\n"
      "windows of --context (default 512) follow each other.\n"
      "  hadal score MODEL story.txt --against MODEL --cache-dtype fp8\n"
      "What a smaller KV cache costs.\n");
  auto o = std::make_shared<Options>();
  add_option(command, "MODEL", o->model, "model folder").required();
  add_option(command, "FILE", o->file, ".txt, .jsonl, or .zst of them").required();
  add_option(command, "--against", o->against, "model folder to compare the predictions with")
      .type_name("MODEL");
  add_cache_dtype(
      command, [o](DType dtype) { o->cache = dtype; },
      "with --against: MODEL reads from a KV cache, bf16, fp32 or fp8");
  add_option(command, "--context", o->score.context,
             "tokens of a window; default: the model's context, at most 2048")
      .range(2, int64_t{1} << 20)
      .type_name("N");
  add_option(command, "--stride", o->score.stride, "tokens between windows; default: half of it")
      .range(1, int64_t{1} << 20)
      .type_name("N");
  add_precision(command, o->score.precision);
  add_threads(command);
  add_json(command, o->json);
  on_run(cli, command, [o] { return run(*o); });
}

}  // namespace hadal
