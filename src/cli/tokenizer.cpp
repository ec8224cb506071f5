// hadal tokenizer train: a byte-level BPE tokenizer from text.
#include <fmt/format.h>

#include "cli/command.h"
#include "cli/options.h"
#include "core/files.h"
#include "text/bpe_trainer.h"
#include "train/data.h"

namespace hadal {
namespace {

struct TokenizerArguments {
  std::vector<std::string> input;
  std::string out;
  bool fim = false;
  BpeTrainOptions train;
};

// As DeepSeek's tokenizers have them: added tokens that are not special.
const std::vector<SpecialToken> kFimTokenNames{
    {"<｜fim▁hole｜>", false}, {"<｜fim▁begin｜>", false}, {"<｜fim▁end｜>", false}};

int train(const TokenizerArguments& o) {
  BpeTrainOptions options = o.train;
  if (o.fim) options.added_tokens = kFimTokenNames;
  BpeTrainer trainer(options);
  for (const fs::path& file : expand_paths(o.input)) {
    read_documents(file, [&](std::string_view text) { trainer.add(text); });
  }
  const TokenizerJson files = trainer.train();
  const fs::path out(o.out);
  if (out.has_parent_path()) make_folder(out.parent_path());
  write_file_atomically(out, files.tokenizer_json);
  write_file_atomically(out.parent_path() / "tokenizer_config.json", files.tokenizer_config_json);
  fmt::print("{} from {} bytes of text\n", out.string(), trainer.bytes_seen());
  return 0;
}

}  // namespace

void add_tokenizer(Cli& cli) {
  CLI::App* group = add_command_group(cli, "tokenizer", "make a tokenizer");
  CLI::App* command = add_command(
      group, "train", "byte-level BPE from text",
      "  hadal tokenizer train --input a.txt b.jsonl.zst --vocab-size 8192 --out tokenizer.json\n"
      "tokenizer_config.json is written beside it.\n");
  auto o = std::make_shared<TokenizerArguments>();
  add_option(command, "--input", o->input, "files: .txt, .jsonl, .zst of them; * and ? in names")
      .required()
      .type_name("FILE...");
  add_option(command, "--vocab-size", o->train.vocab_size, "ids in all (default 8192)")
      .type_name("N");
  add_flag(command, "--fim", o->fim,
           "add the tokens of fill-in-the-middle, which a recipe's data.fim_rate needs");
  add_option(command, "--out", o->out, "tokenizer.json to write").required().type_name("FILE");
  on_run(cli, command, [o] { return train(*o); });
}

}  // namespace hadal
