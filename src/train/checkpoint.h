#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/files.h"
#include "train/trainer.h"

namespace hadal {

// Checkpoints of a run: RUN/checkpoints/step-N is a whole Hugging Face folder (weights in FP32,
// config.json, tokenizer files) with optimizer.safetensors (moments, and averages if there are
// any), recipe.json, state.json, and manifest.json, which is written last (train/manifest.h). The
// folder is made as step-N.tmp-PID and renamed when all is on the disk: it exists whole or not at
// all, whenever the machine stops.

// Writes one, then removes all that is older but the newest recipe.run.keep and the best: the one
// with the least bits per byte of held-out text (Trainer::last_evaluation, if it is of this step).
// `tokenizer` is the file or folder of the run's tokenizer, or empty. Returns the folder.
// Error{kUsage} if this step has one. Error{kIo}: what was there stays, and of the new one there is
// nothing or all.
fs::path save_checkpoint(Trainer& trainer, const fs::path& run, const fs::path& tokenizer);

// Puts weights, moments, router biases and state back: the next step gives the bits it would have
// given. Error{kFormat} for a broken set, Error{kUsage} when recipe or data differ in a key that
// may not change (RecipeKey::may_change) and is not among `allowed`.
void load_checkpoint(Trainer& trainer, const fs::path& checkpoint,
                     std::span<const std::string> allowed = {});

// Puts a checkpoint's averaged weights (optim.ema) into a model of FP32 values of its own.
// Error{kUsage} when the run kept none.
void load_averages(Transformer& model, const fs::path& checkpoint);

// About the bytes of one, files and all.
int64_t checkpoint_bytes(Trainer& trainer, const fs::path& tokenizer);

// Folders of saves and removals that were broken off.
void remove_unfinished_checkpoints(const fs::path& run);

// Steps of RUN/checkpoints/step-N, highest first.
std::vector<int64_t> checkpoint_steps(const fs::path& run);
// The newest step whose files have the sizes and hashes of its manifest; `passed_over` gets a line
// for each newer one. std::nullopt when there are none at all. Error{kFormat} when none is whole,
// and when another version of this program wrote the newest.
std::optional<fs::path> newest_checkpoint(const fs::path& run,
                                          std::vector<std::string>& passed_over);
// Renames those of later steps, which are damaged, to step-N.damaged: the run will come there
// again.
void set_aside_checkpoints_after(const fs::path& run, int64_t step);
// The folder of a step, its hashes checked. Error{kUsage} names the steps there are.
fs::path checkpoint_of_step(const fs::path& run, int64_t step);

}  // namespace hadal
