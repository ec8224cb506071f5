// hadal template: conversations as a model's chat template writes them.
#include <iostream>

#include "cli/command.h"
#include "cli/options.h"
#include "core/files.h"
#include "text/chat_template.h"

namespace hadal {
namespace {

struct TemplateArguments {
  std::string model, tokenizer_config, file;
};

int render(const TemplateArguments& o) {
  const ChatTemplate chat = ChatTemplate::load(o.model, o.tokenizer_config);
  const std::string text = read_file(o.file);
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = str(o.file, ":", number);
    try {
      print_json(chat.render(parse_ordered_json(line, where)));
    } catch (const Error& e) {
      // What failed is in the template or in the line: both are named.
      if (std::string_view(e.what()).starts_with(where)) throw;
      throw Error(e.kind(), str(where, ": ", e.what()));
    }
  }
  return 0;
}

}  // namespace

void add_template(Cli& cli) {
  CLI::App* command = add_command(
      cli, "template", "conversations as a chat template writes them: a JSON string a line",
      "  hadal template MODEL --jsonl chats.jsonl\n"
      "  hadal template chat_template.jinja --tokenizer-config tokenizer_config.json --jsonl F\n"
      "A line is {\"messages\": [...], \"add_generation_prompt\": true}; other keys, such as "
      "tools,\n"
      "are variables of the template.\n");
  auto o = std::make_shared<TemplateArguments>();
  add_option(command, "MODEL", o->model, "model folder, a .jinja file or a tokenizer_config.json")
      .required();
  add_option(command, "--tokenizer-config", o->tokenizer_config,
             "bos_token, eos_token, ... (the one beside the template)")
      .type_name("FILE");
  add_option(command, "--jsonl", o->file, "lines of {\"messages\": [...], ...}")
      .required()
      .type_name("FILE");
  on_run(cli, command, [o] { return render(*o); });
}

}  // namespace hadal
