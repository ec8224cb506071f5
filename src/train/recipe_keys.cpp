// The one list of what a recipe may say, apart from [model], whose keys are config.json's.
#include <limits>

#include "train/recipe.h"

namespace hadal {
namespace {

using R = TrainRecipe;
using Int = int64_t&;
using Real = double&;
using Text = std::string&;
using Texts = std::vector<std::string>&;
using Ramp = Phases&;
using Flag = bool&;

constexpr double kMany = 1e12;

const RecipeKey kKeys[] = {
    {"version", [](R& r) -> Int { return r.version; }, kRecipeVersion, kRecipeVersion, "",
     "of the keys that the recipe was written for"},
    {"run.steps", [](R& r) -> Int { return r.run.steps; }, 1, kMany, "",
     "optimizer steps of the whole run", true},
    {"run.tokens", [](R& r) -> Int { return r.run.tokens; }, 0, 1e15, "",
     "instead of run.steps: as many steps as read so many tokens; 0: run.steps", true},
    {"run.seed", [](R& r) -> Int { return r.run.seed; }, 0, kMany, "",
     "of the first weights, of the order of the data and of what is held out"},
    {"run.out", [](R& r) -> Text { return r.run.out; }, 0, 0, "",
     "folder of the run: checkpoints/, model/, metrics.jsonl", true},
    {"run.checkpoint_every", [](R& r) -> Int { return r.run.checkpoint_every; }, 0, kMany, "",
     "steps between checkpoints; 0: only the last", true},
    {"run.keep", [](R& r) -> Int { return r.run.keep; }, 1, kMany, "",
     "checkpoints that stay, the newest, and the best on held-out text; others are removed", true},
    {"run.max_bad_steps", [](R& r) -> Int { return r.run.max_bad_steps; }, 1, kMany, "",
     "the run ends when so many steps in a row have a loss or gradient that is not finite", true},
    {"run.eval_every", [](R& r) -> Int { return r.run.eval_every; }, 0, kMany, "",
     "steps between evaluations on held-out text; 0: only before and after", true},
    {"run.layers_every", [](R& r) -> Int { return r.run.layers_every; }, 1, kMany, "",
     "steps between lines of metrics.jsonl that tell of each layer: load, entropy, gradient", true},
    {"run.sample_every", [](R& r) -> Int { return r.run.sample_every; }, 0, kMany, "",
     "steps between texts the model writes on the way; 0: none", true},
    {"run.sample_prompts", [](R& r) -> Texts { return r.run.sample_prompts; }, 0, 0, "",
     "what those texts begin with, one text each", true},
    {"run.sample_tokens", [](R& r) -> Int { return r.run.sample_tokens; }, 1, 1 << 16, "",
     "tokens of such a text at most", true},
    {"run.threads", [](R& r) -> Int { return r.run.threads; }, 0, 1024, "",
     "0: as many as there are CPUs; the result does not depend on it", true},
    {"run.precision", [](R& r) -> Text { return r.run.precision; }, 0, 0, "fp32, bf16, fp8",
     "of the Linears' products; bf16 rounds operands and what is kept for the backward, and sums "
     "in "
     "FP32; fp8: the V3 report's "
     "(3.3), "
     "activations for the backward smaller too, head and the projection of MTP in bf16, moments "
     "best in bf16; weights and gradients stay FP32"},
    {"run.fp8_gradient_tiles", [](R& r) -> Text { return r.run.fp8_gradient_tiles; }, 0, 0,
     "1x128, 128x128",
     "fp8: one scale for each of these tiles of the activations' gradients; the report found "
     "that "
     "128x128 diverges"},
    {"run.init_from", [](R& r) -> Text { return r.run.init_from; }, 0, 0, "",
     "start with the weights of this model folder; [model] may then be left out"},
    {"run.eval_buckets", [](R& r) -> Int { return r.run.eval_buckets; }, 1, 64, "",
     "an evaluation's loss is also told for so many parts of the row, by position", true},
    {"data.train", [](R& r) -> Texts { return r.data.train; }, 0, 0, "",
     "files: .txt, .jsonl ({\"text\": ...} a line), .zst of them; * and ? in names"},
    {"data.valid", [](R& r) -> Texts { return r.data.valid; }, 0, 0, "",
     "the same, held out: never trained on"},
    {"data.valid_share", [](R& r) -> Real { return r.data.valid_share; }, 0, 0.5, "",
     "without data.valid: this share of the training documents is held out"},
    {"data.source", [](R& r) -> DataSources& { return r.data.source; }, 0, 0, "",
     "instead of train and valid, several: name, train, valid, and weight = share of the rows"},
    {"data.cache", [](R& r) -> Text { return r.data.cache; }, 0, 0, "",
     "folder where tokenised text is kept for all runs; default: ~/.cache/hadal", true},
    {"data.tokenizer", [](R& r) -> Text { return r.data.tokenizer; }, 0, 0, "",
     "a tokenizer.json, or the folder of one"},
    {"data.sequence_length", [](R& r) -> Int { return r.data.sequence_length; }, 1, 1 << 20, "",
     "tokens of a row"},
    {"data.rows", [](R& r) -> Text { return r.data.rows; }, 0, 0, "stream, documents",
     "stream: cut wherever a row is full; documents: what was cut begins the next row anew"},
    {"data.fim_rate", [](R& r) -> Real { return r.data.fim_rate; }, 0, 1, "",
     "share of the training documents that are made fill-in-the-middle (V3 report, 4.2)"},
    {"data.document_mask", [](R& r) -> Flag { return r.data.document_mask; }, 0, 0, "",
     "true: documents packed into one row neither see nor predict each other"},
    {"data.eval_sequences", [](R& r) -> Int { return r.data.eval_sequences; }, 0, kMany, "",
     "rows of each held-out text an evaluation reads; 0: all there are", true},
    {"batch.sequences", [](R& r) -> Int { return r.batch.sequences; }, 1, 1 << 20, "",
     "rows of a step"},
    {"batch.micro", [](R& r) -> Int { return r.batch.micro; }, 0, 1 << 20, "",
     "rows of one pass, fewer need less memory; 0: all of a step"},
    {"batch.phases", [](R& r) -> Ramp { return r.batch.phases; }, 1, 1 << 20, "",
     "rows of a step along the run, instead of batch.sequences"},
    {"optim.schedule", [](R& r) -> Text { return r.optim.schedule; }, 0, 0, "constant, cosine, wsd",
     "wsd: warm-up, stable, decay"},
    {"optim.lr", [](R& r) -> Real { return r.optim.lr; }, 0, 10, "", "the peak learning rate"},
    {"optim.min_lr", [](R& r) -> Real { return r.optim.min_lr; }, 0, 10, "",
     "where cosine and wsd end"},
    {"optim.warmup_steps", [](R& r) -> Int { return r.optim.warmup_steps; }, 0, kMany, "",
     "steps of linear warm-up"},
    {"optim.decay_share", [](R& r) -> Real { return r.optim.decay_share; }, 0, 1, "",
     "wsd: the last share of the steps, a cosine down to min_lr"},
    {"optim.lr_phases", [](R& r) -> Ramp { return r.optim.lr_phases; }, 0, 10, "",
     "the learning rate along the run, instead of the five keys above"},
    {"optim.beta1", [](R& r) -> Real { return r.optim.beta1; }, 0, 0.99999, "",
     "AdamW's memory of the gradient"},
    {"optim.beta2", [](R& r) -> Real { return r.optim.beta2; }, 0, 0.9999999, "",
     "AdamW's memory of its square"},
    {"optim.eps", [](R& r) -> Real { return r.optim.eps; }, 1e-20, 1, "",
     "added to AdamW's denominator"},
    {"optim.weight_decay", [](R& r) -> Real { return r.optim.weight_decay; }, 0, 10, "",
     "decoupled, of the Linears' matrices"},
    {"optim.embedding_decay", [](R& r) -> Real { return r.optim.embedding_decay; }, 0, 10, "",
     "the same of the embedding"},
    {"optim.head_decay", [](R& r) -> Real { return r.optim.head_decay; }, 0, 10, "",
     "of the output head"},
    {"optim.router_decay", [](R& r) -> Real { return r.optim.router_decay; }, 0, 10, "",
     "of the gates' weights"},
    {"optim.norm_decay", [](R& r) -> Real { return r.optim.norm_decay; }, 0, 10, "",
     "of the norms' gains and biases"},
    {"optim.bias_decay", [](R& r) -> Real { return r.optim.bias_decay; }, 0, 10, "",
     "of the Linears' biases"},
    {"optim.moments", [](R& r) -> Text { return r.optim.moments; }, 0, 0, "fp32, bf16",
     "how AdamW keeps its moments; bf16 halves their memory (V3 report, 3.3)"},
    {"optim.ema", [](R& r) -> Real { return r.optim.ema; }, 0, 0.999999, "",
     "memory of the averaged weights (V3 report, 3.2.3), min(ema, (1+t)/(10+t)); 0: none"},
    {"optim.clip", [](R& r) -> Real { return r.optim.clip; }, 0, 1e9, "",
     "largest L2 norm of the whole gradient; 0: none"},
    {"optim.init", [](R& r) -> Text { return r.optim.init; }, 0, 0, "normal, scaled",
     "first weights; scaled: 1/sqrt(inputs), embeddings with init_std around a shared vector"},
    {"optim.init_std", [](R& r) -> Real { return r.optim.init_std; }, 1e-6, 1, "",
     "standard deviation of the first weights"},
    {"balance.gamma", [](R& r) -> Real { return r.balance.gamma; }, 0, 1, "",
     "speed of the router biases (V3 report, 2.1.2)"},
    {"balance.freeze_share", [](R& r) -> Real { return r.balance.freeze_share; }, 0, 1, "",
     "the biases rest in this last share of the steps"},
    {"balance.sequence_alpha", [](R& r) -> Real { return r.balance.sequence_alpha; }, 0, 10, "",
     "weight of the sequence-wise balance loss"},
    {"balance.batch_alpha", [](R& r) -> Real { return r.balance.batch_alpha; }, 0, 10, "",
     "weight of the classic auxiliary loss, over each micro-batch"},
    {"balance.gamma_phases", [](R& r) -> Ramp { return r.balance.gamma_phases; }, 0, 1, "",
     "gamma along the run, instead of gamma and freeze_share"},
    {"balance.sequence_alpha_phases", [](R& r) -> Ramp { return r.balance.sequence_alpha_phases; },
     0, 10, "", "sequence_alpha along the run"},
    {"mtp.lambda", [](R& r) -> Real { return r.mtp.lambda; }, 0, 10, "",
     "weight of the multi-token prediction loss (V3 report, 2.2)"},
    {"mtp.lambda_phases", [](R& r) -> Ramp { return r.mtp.lambda_phases; }, 0, 10, "",
     "lambda along the run"},
};

}  // namespace

std::span<const RecipeKey> recipe_keys() {
  return kKeys;
}

std::span<const PhasesInstead> phases_instead() {
  static constexpr PhasesInstead kInstead[] = {
      {"optim.lr_phases",
       "optim.schedule, optim.lr, optim.min_lr, optim.warmup_steps, optim.decay_share"},
      {"batch.phases", "batch.sequences"},
      {"balance.gamma_phases", "balance.gamma, balance.freeze_share"},
      {"balance.sequence_alpha_phases", "balance.sequence_alpha"},
      {"mtp.lambda_phases", "mtp.lambda"},
  };
  return kInstead;
}

}  // namespace hadal
