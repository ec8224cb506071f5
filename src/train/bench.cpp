#include "train/bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>

#include "core/parallel.h"
#include "core/rng.h"
#include "ops/matrix_product.h"
#include "text/tokenizer.h"
#include "train/trainer.h"

namespace hadal {
namespace {

TokenDocuments random_tokens(int64_t count, int64_t vocabulary) {
  Rng rng(1);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(rng.below(vocabulary)));
  TokenDocuments documents;
  documents.add(ids);
  return documents;
}

TokenizerFacts tokenizer_of(const TrainRecipe& recipe) {
  if (recipe.data.tokenizer.empty()) return {};
  return {Tokenizer::load(recipe.data.tokenizer).vocab_size(), {}, {}, {}};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Biases that fall linearly from expert to expert, as steep as it takes.
void make_uneven(Trainer& trainer, double max_vio) {
  double low = 0, high = 1;  // scores are at most 1
  for (int i = 0; i < 12; ++i) {
    const double steepness = (low + high) / 2;
    for (Param& p : trainer.model().params().all()) {
      if (p.group != ParamGroup::kRouterBias) continue;
      const Out1 bias = p.vec_mut();
      for (int64_t e = 0; e < bias.dim(0); ++e) {
        bias.data()[e] = static_cast<float>(-steepness * static_cast<double>(e) /
                                            static_cast<double>(bias.dim(0)));
      }
    }
    (trainer.evaluate().max_vio < max_vio ? low : high) = steepness;
  }
}

void count_memory(Trainer& trainer, TrainBench& bench) {
  const auto four = int64_t{sizeof(float)};
  for (const Param& p : trainer.model().params().all()) {
    bench.weights += p.size() * (dtype_size(p.dtype) + (p.rounded == nullptr ? 0 : 2));
    if (p.gradient == nullptr) continue;
    bench.gradients += p.size() * four;
  }
  bench.moments = trainer.optimizer().bytes();
  bench.activations = trainer.model().activation_peak_bytes();
  bench.packing = packing_bytes();
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  bench.peak_rss = int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace

TrainBench bench_train(const TrainRecipe& asked, const TrainBenchOptions& options) {
  HADAL_CHECK(options.steps >= 1 && options.warmup >= 0, kUsage, "bench: ", options.steps,
              " steps after ", options.warmup, ", expected at least 1 after 0");
  TrainRecipe recipe = asked;
  // A batch that grows is timed as it ends.
  recipe.batch.sequences = RunSchedule(asked).at(asked.run.steps - 1).rows;
  recipe.batch.phases.clear();
  recipe.run.steps = options.warmup + options.steps;
  if (options.max_vio > 0) recipe.balance.gamma = 0;
  recipe.data.eval_sequences = recipe.batch.sequences;
  const ModelConfig config = recipe_model(recipe, tokenizer_of(recipe));
  TrainBench bench;

  Transformer model(config);
  prepare_training(model.params(), recipe);
  bench.threads = num_threads();
  bench.parameters = model.params().count();
  bench.tokens_a_step = recipe.batch.sequences * recipe.data.sequence_length;
  TokenSource source(random_tokens(bench.tokens_a_step * recipe.run.steps + 1, config.vocab_size),
                     {recipe.data.sequence_length, config.num_nextn_predict_layers});
  Trainer trainer(model, recipe, source, &source);
  if (options.max_vio > 0) make_uneven(trainer, options.max_vio);
  for (int64_t i = 0; i < options.warmup; ++i) trainer.step();

  const StepClock clock;
  std::vector<double> rates;
  for (int64_t i = 0; i < options.steps; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    bench.loss = trainer.step().loss;
    const double s =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    rates.push_back(static_cast<double>(bench.tokens_a_step) / s);
    bench.seconds += s;
  }
  bench.tokens_per_s = median(rates);
  bench.max_vio = worst_violation(trainer.last_loads());
  bench.elementwise_seconds = bench.seconds;
  double flops = 0;
  for (size_t i = 0; i < kParts; ++i) {
    bench.parts[i] = clock.total(static_cast<StepPart>(i));
    bench.elementwise_seconds -= bench.parts[i].seconds;
    flops += bench.parts[i].flops;
  }
  bench.flops_per_token = flops / static_cast<double>(bench.tokens_a_step * options.steps);
  count_memory(trainer, bench);
  return bench;
}

}  // namespace hadal
