#pragma once
#include <memory>
#include <string>
#include <vector>

#include "train/mixture.h"
#include "train/recipe.h"
#include "train/token_cache.h"

namespace hadal {

// The rows of a recipe's run, from its [data]: tokenised, or mapped as they were tokenised before.
struct RunData {
  std::unique_ptr<TokenMixture> train;
  std::vector<HeldOut> held_out;  // those of the sources that have any
};

// Error{kUsage, kConfig, kFormat} for what no run can be made of, among others text of a source
// that is shorter than one sequence.
RunData open_run_data(const TrainRecipe& recipe, const Tokenizer& tokenizer, int64_t mtp_depth,
                      const TokenizeWatch& watch = {});

}  // namespace hadal
