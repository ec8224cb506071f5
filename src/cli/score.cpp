// hadal score: how well a model predicts a text.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "cli/command.h"
#include "cli/options.h"
#include "core/error.h"
#include "core/files.h"
#include "model/divergence.h"
#include "train/data.h"
#include "train/score.h"

namespace hadal {
namespace {

struct ScoreArguments {
  std::string model, file, against;
  std::optional<DType> cache;
  ScoreOptions score;
  bool allow_paging = false, json = false;
};

// Of the reference while `beside` is loaded, which is another model.
LoadOptions load_options(const ScoreArguments& o, const Transformer* beside = nullptr) {
  LoadOptions options;
  options.serving =
      ServingNeed{.context = o.score.context, .cache_dtype = o.cache.value_or(DType::kBF16)};
  options.allow_paging = o.allow_paging;
  if (beside != nullptr) {
    options.machine = machine_memory();
    options.machine->available -= beside->params().value_bytes();
  }
  return options;
}

int run_against(const ScoreArguments& o) {
  const Pretrained model = load_for_serving(o.model, load_options(o));
  std::error_code ignored;                                        // the loader says what is wrong
  const bool same = fs::equivalent(o.model, o.against, ignored);  // and then its pages of files
  const Pretrained reference =
      load_for_serving(o.against, load_options(o, same ? nullptr : model.model.get()));
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

int run_score(const ScoreArguments& o) {
  if (!o.against.empty()) return run_against(o);
  HADAL_CHECK(!o.cache, kUsage, "--cache-dtype says what to compare --against a model");
  LoadOptions options = load_options(o);
  if (!o.allow_paging) options.values = LoadOptions::Values::kF32;
  const Pretrained model = load_for_serving(o.model, options);
  const Tokenizer tokenizer = Tokenizer::load(o.model);
  const Score score = score_file(*model.model, tokenizer, o.file, o.score);
  model.check_intact();
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
      "What a smaller KV cache costs.\n"
      "Without --against weights are read as FP32; with --allow-paging as they are stored.\n");
  auto o = std::make_shared<ScoreArguments>();
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
  add_allow_paging(command, o->allow_paging);
  add_precision(command, o->score.precision);
  add_threads(command);
  add_json(command, o->json);
  on_run(cli, command, [o] { return run_score(*o); });
}

}  // namespace hadal
