// hadal tokenize, detokenize: text to ids and back, a JSON value a line.
#include <iostream>

#include "cli/command.h"
#include "cli/options.h"
#include "core/files.h"

namespace hadal {
namespace {

struct TokenizeArguments {
  std::string tokenizer, file;
  bool plain = false, skip_special = false;
};

// Calls fn with the value of `key` in each line's object.
template <class Fn>
void for_each_line(const std::string& file, const char* key, Fn fn) {
  const std::string text = read_file(file);
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = str(file, ":", number);
    const Json object = parse_json(line, where);
    const auto value = json_object(object, where).find(key);
    HADAL_CHECK(value != object.end(), kFormat, where, ": the object has no key \"", key, "\"");
    fn(*value, str(where, ": ", key));
  }
}

int tokenize(const TokenizeArguments& o) {
  const Tokenizer tokenizer = Tokenizer::load(o.tokenizer);
  for_each_line(o.file, "text", [&](const Json& value, const std::string& where) {
    const auto ids = tokenizer.encode(json_string(value, where), {.special = !o.plain});
    std::string line = "[";
    for (size_t i = 0; i < ids.size(); ++i) {
      line += (i == 0 ? "" : ",") + std::to_string(ids[i]);
    }
    std::cout << line << "]\n";
  });
  return 0;
}

int detokenize(const TokenizeArguments& o) {
  const Tokenizer tokenizer = Tokenizer::load(o.tokenizer);
  for_each_line(o.file, "ids", [&](const Json& value, const std::string& where) {
    std::vector<int32_t> ids;
    for (const Json& item : json_array(value, where)) {
      const int64_t id = json_int(item, where);
      HADAL_CHECK(id >= 0 && id < tokenizer.vocab_size(), kUsage, where, ": id ", id,
                  " is outside the tokenizer's vocabulary of ", tokenizer.vocab_size());
      ids.push_back(static_cast<int32_t>(id));
    }
    print_json(tokenizer.decode(ids, o.skip_special));
  });
  return 0;
}

}  // namespace

void add_tokenize(Cli& cli) {
  CLI::App* command =
      add_command(cli, "tokenize", "token ids of texts: a JSON array a line",
                  "  hadal tokenize MODEL --jsonl texts.jsonl    lines of {\"text\": ...}\n");
  auto o = std::make_shared<TokenizeArguments>();
  add_option(command, "MODEL", o->tokenizer, "model folder, or a tokenizer.json").required();
  add_option(command, "--jsonl", o->file, "lines of {\"text\": ...}").required().type_name("FILE");
  add_flag(command, "--plain", o->plain, "special tokens written in a text are ordinary text");
  on_run(cli, command, [o] { return tokenize(*o); });
}

void add_detokenize(Cli& cli) {
  CLI::App* command =
      add_command(cli, "detokenize", "texts of token ids: a JSON string a line",
                  "  hadal detokenize MODEL --jsonl ids.jsonl    lines of {\"ids\": [...]}\n");
  auto o = std::make_shared<TokenizeArguments>();
  add_option(command, "MODEL", o->tokenizer, "model folder, or a tokenizer.json").required();
  add_option(command, "--jsonl", o->file, "lines of {\"ids\": [...]}").required().type_name("FILE");
  add_flag(command, "--skip-special", o->skip_special, "leave special tokens out");
  on_run(cli, command, [o] { return detokenize(*o); });
}

}  // namespace hadal
