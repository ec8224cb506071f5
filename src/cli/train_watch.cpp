#include "cli/train_watch.h"

#include "cli/generation.h"
#include "kernels/selftest.h"

namespace hadal {
namespace {

constexpr double kTemperature = 0.7;

// Before the first step, rather than in the middle of the night.
void check_prompts(const TrainRecipe& recipe, const Tokenizer& tokenizer,
                   const ModelConfig& config) {
  for (const std::string& prompt : recipe.run.sample_prompts) {
    const size_t tokens = tokenizer.encode(prompt, {.add_special_tokens = true}).size();
    HADAL_CHECK(tokens > 0 && static_cast<int64_t>(tokens) < config.max_position_embeddings, kUsage,
                "run.sample_prompts: \"", prompt, "\" has ", tokens,
                " tokens, expected at least 1 and fewer than max_position_embeddings, ",
                config.max_position_embeddings);
  }
}

}  // namespace

void watch_run(TrainRun& run) {
  const TrainRecipe& recipe = run.trainer().recipe();
  // FP8 products are made of what BF16 ones are: their peak is the same.
  const bool fp32 = recipe.run.precision == "fp32";
  run.set_peak(arithmetic_roof(fp32 ? kernels().peak_fp32 : kernels().peak_bf16));
  if (recipe.run.sample_every == 0) return;
  // The seed is the same at every step: what changes in a text is the model's doing.
  TextRequest request;
  request.special = false;
  request.request.sampling.temperature = kTemperature;
  request.request.sampling.seed = static_cast<uint64_t>(recipe.run.seed);
  request.request.max_tokens = recipe.run.sample_tokens;
  request.request.speculation = {Speculation::Mode::kOff, 0};
  const auto tokenizer = std::make_shared<Tokenizer>(Tokenizer::load(recipe.data.tokenizer));
  check_prompts(recipe, *tokenizer, run.model().config());
  run.set_sampler([request, tokenizer](Transformer& model, const std::string& prompt) {
    TextRequest mine = request;
    mine.prompt = prompt;
    return TextEngine(model, *tokenizer, {.cache_dtype = DType::kF32}).generate(mine).text;
  });
}

}  // namespace hadal
