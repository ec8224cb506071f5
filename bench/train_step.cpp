// Training steps of a recipe's model on random tokens:
//   train_step recipes/bench_45m.toml [--steps 8] [--warmup 1] [--threads N] [--set a.b=v]
// Prints one JSON object: tokens_per_s is the median over the steps after the first --warmup ones;
// peak_rss_bytes is the whole process. Compare with tools/peers/train_torch.py, in turns.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>

#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/kernels.h"
#include "train/trainer.h"

namespace hadal {
namespace {

struct Options {
  std::string recipe;
  std::vector<std::string> sets;
  int64_t steps = 8, warmup = 1, threads = 0;
};

TokenDocuments random_tokens(int64_t count, int64_t vocabulary) {
  Rng rng(1);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(rng.below(vocabulary)));
  TokenDocuments documents;
  documents.add(ids);
  return documents;
}

int run(const Options& o) {
  if (o.threads > 0) set_num_threads(o.threads);
  TrainRecipe recipe = load_recipe(o.recipe, o.sets);
  recipe.run.steps = o.steps;
  const ModelConfig config = recipe_model(recipe, {});
  Transformer model(config);
  prepare_training(model.params(), recipe);
  const int64_t step_tokens = recipe.batch.sequences * recipe.data.sequence_length;
  TokenSource source(random_tokens(step_tokens * o.steps + 1, config.vocab_size),
                     {recipe.data.sequence_length, config.num_nextn_predict_layers});
  Trainer trainer(model, recipe, source);
  std::vector<double> rates;
  double loss = 0;
  for (int64_t i = 0; i < o.steps; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    loss = trainer.step().loss;
    const double s =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (i >= o.warmup) rates.push_back(double(step_tokens) / s);
  }
  std::sort(rates.begin(), rates.end());
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  std::cout << OrderedJson{{"engine", "hadal"},
                           {"family", kernels().family},
                           {"threads", num_threads()},
                           {"parameters", model.params().count()},
                           {"tokens_a_step", step_tokens},
                           {"precision", recipe.run.precision},
                           {"loss", loss},
                           {"tokens_per_s", rates[rates.size() / 2]},
                           {"peak_rss_bytes", int64_t{usage.ru_maxrss} * 1024},
                           {"activation_peak_bytes", model.activation_peak_bytes()}}
            << "\n";
  return 0;
}

}  // namespace
}  // namespace hadal

int main(int argc, char** argv) {
  hadal::Options o;
  CLI::App app("Times training steps on random tokens");
  app.add_option("RECIPE", o.recipe)->required();
  app.add_option("--steps", o.steps)->check(CLI::Range(2, 1000000));
  app.add_option("--warmup", o.warmup);
  app.add_option("--threads", o.threads);
  app.add_option("--set", o.sets);
  CLI11_PARSE(app, argc, argv);
  if (o.warmup >= o.steps) {
    std::cerr << "error: --warmup leaves nothing to time\n";
    return 2;
  }
  try {
    return hadal::run(o);
  } catch (const std::exception& e) {
    std::cerr << "error: " << e.what() << "\n";
    return 1;
  }
}
