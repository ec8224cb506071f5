#pragma once
#include <filesystem>
#include <memory>
#include <optional>

#include "io/checkpoint.h"
#include "model/memory.h"
#include "model/transformer.h"
#include "quant/formats.h"

namespace hadal {

// Whole models between a Hugging Face folder and memory, under the tensor names that transformers
// and the released files use. Single tensors are model/weights.h's.

struct LoadOptions {
  // How the embedding, the head and the matrices of Linears are held. Norms, biases, routers and
  // routing biases are FP32 always; where F8_E4M3 is not held as it is, it is decoded with its
  // scales.
  enum class Values {
    // F32, BF16 and F16 as they are, F8_E4M3 in blocks of 128 x 128, int8 and int4 of Linears too,
    // all else exactly in F32.
    kStored,
    kF32,
    kBF16,  // rounded to nearest even
  };
  Values values = Values::kStored;
  // FP32 values of its own for every parameter, and gradients; `values` does not matter then.
  bool training = false;
  // What the model is loaded for. More than the machine has now is Error{kResource} with the
  // figures of check_memory, before weights are read; training is not asked.
  std::optional<ServingNeed> serving = {};
  // No refusal then: weights stay in their files, of which memory holds what is in use, the experts
  // that a router chose are read ahead (Param::paged), and of large tensors only a few numbers are
  // checked. Error{kResource} names a matrix that would have to be copied into another form.
  bool allow_paging = false;
  std::optional<MachineMemory> machine = {};  // instead of machine_memory()
};

// A model and, when numbers of it lie in mapped files, those files.
struct Pretrained {
  std::unique_ptr<Transformer> model;
  std::shared_ptr<const Checkpoint> files;  // null when nothing is mapped
  // After a pass: Error{kIo} if a mapped file was cut short, so that what was computed is void.
  void check_intact() const {
    if (files) files->check_intact();
  }
};

// config.json, then the weights of the folder. What can be used where it lies in the file is mapped
// and not copied. Warnings, each one line: those of load_config; multi-token prediction that
// config.json announces and the files do not hold (the model then has none); tensors that the model
// does not know; copies of the embedding or the head that differ from the original, which is used.
// Errors beside those of load_config, Checkpoint::open and read_weight:
//   kFormat  tensors are missing: says how many and names the first
Pretrained load_pretrained(const std::filesystem::path& folder, const LoadOptions& options,
                           ConfigWarnings& warnings);

// How many multi-token prediction modules the files hold, counted from the first; at most those of
// the config.
int64_t stored_modules(const ModelConfig& config, const Checkpoint& checkpoint);

// Error{kFormat} where tensors of the model are missing; warnings for those that it does not know.
void check_tensors(const Transformer& model, const Checkpoint& checkpoint,
                   ConfigWarnings& warnings);
// Blocks of the folder's FP8 weights.
BlockShape stored_fp8_block(const ModelConfig& config);
// config.json and generation_config.json of `config`, and the tokenizer files of folder `tokenizer`
// where it has a tokenizer.json.
void write_model_files(const ModelConfig& config, const std::filesystem::path& tokenizer,
                       const std::filesystem::path& folder);

// The weights alone, into a model made of that folder's config. Returns whether numbers are used
// where they are mapped: the model keeps the checkpoint alive then.
bool load_weights(Transformer& model, const std::shared_ptr<const Checkpoint>& checkpoint,
                  const LoadOptions& options, ConfigWarnings& warnings);

struct SaveOptions {
  // F32, BF16 or F16; routing biases are F32 always. F8_E4M3: the matrices that FP8 training
  // computes with as the codes and scales it uses (Param::fp8_matrix), all else F32, so that a
  // model trained in FP8 comes back bit for bit.
  DType dtype = DType::kF32;
  int64_t shard_bytes = kDefaultShardBytes;
  // Whose tokenizer files are copied: a folder, or a tokenizer.json. Empty: none are.
  std::filesystem::path tokenizer = {};
};

// Writes the folder: safetensors, generation_config.json, tokenizer files, and config.json last; an
// old config.json is removed first, so that an interrupted call leaves a folder that does not load
// instead of a mixture. Multi-token prediction is layer num_hidden_layers and up with copies of
// embedding and head, as in the released files. Error{kFormat} names a tensor with a number that
// dtype cannot hold.
void save_pretrained(const Transformer& model, const std::filesystem::path& folder,
                     const SaveOptions& options = {});

// Of all tensors that save_pretrained writes.
int64_t pretrained_bytes(const Transformer& model, DType dtype);

// tokenizer.json and what there is beside it of tokenizer_config.json, special_tokens_map.json and
// chat templates. `tokenizer` is a folder or a tokenizer.json.
void copy_tokenizer_files(const std::filesystem::path& tokenizer,
                          const std::filesystem::path& folder);

}  // namespace hadal
