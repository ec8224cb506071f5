// hadal score: how well a model predicts a text.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "cli/command.h"
#include "cli/options.h"
#include "train/score.h"

namespace hadal {
namespace {

struct Options {
  std::string model, file;
  ScoreOptions score;
  bool json = false;
};

int run(const Options& o) {
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
  CLI::App* command =
      add_command(cli, "score", "bits per byte and perplexity of a text",
                  "  hadal score MODEL story.txt\n"
                  "  hadal score MODEL stories.jsonl.zst --context 512 --stride 256 --json\n"
                  "Each document is read alone. A long one is read in windows of --context tokens\n"
                  "that move by --stride; every token counts once.\n");
  auto o = std::make_shared<Options>();
  add_option(command, "MODEL", o->model, "model folder").required();
  add_option(command, "FILE", o->file, ".txt, .jsonl, or .zst of them").required();
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
