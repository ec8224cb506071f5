#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/files.h"
#include "train/trainer.h"

namespace hadal {

// Checkpoints of a run: RUN/checkpoints/step-N is a whole Hugging Face folder (weights in FP32,
// config.json, tokenizer files) with optimizer.safetensors, ema.safetensors if there is an average,
// recipe.json, state.json, and manifest.json, which lists size and hash of every other file and is
// written last. The folder is made as step-N.tmp-PID and renamed when all is on the disk: it exists
// whole or not at all.

// Writes one, then removes all but the newest recipe.run.keep. `tokenizer` is the file or folder of
// the run's tokenizer, or empty. Returns the folder.
fs::path save_checkpoint(Trainer& trainer, const fs::path& run, const fs::path& tokenizer);

// Puts weights, moments, router biases and state back: the next step gives the bits it would have
// given. Error{kFormat} for a broken set, Error{kUsage} when the recipe differs in a key that may
// not change (RecipeKey::may_change).
void load_checkpoint(Trainer& trainer, const fs::path& checkpoint);

// Puts a checkpoint's averaged weights (optim.ema) into a model of FP32 values of its own.
// Error{kUsage} when the run kept none.
void load_averages(Transformer& model, const fs::path& checkpoint);

// Folders of saves that were broken off.
void remove_unfinished_checkpoints(const fs::path& run);

// The newest step whose manifest matches its files' sizes; `passed_over` gets a line for each set
// that was not taken. std::nullopt when there is none.
std::optional<fs::path> newest_checkpoint(const fs::path& run,
                                          std::vector<std::string>& passed_over);
// The folder of a step. Error{kUsage} names the steps there are.
fs::path checkpoint_of_step(const fs::path& run, int64_t step);

}  // namespace hadal
