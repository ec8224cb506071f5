// hadal generate: text from a model, streamed.
#include <fmt/format.h>

#include <iostream>

#include "cli/command.h"
#include "cli/generation.h"
#include "cli/options.h"
#include "core/files.h"

namespace hadal {
namespace {

struct Options {
  std::string model, prompt_file;
  std::vector<std::string> prompts;
  GenerationArgs args;
  int64_t samples = 1;
  bool plain = false, json = false;
};

// One prompt a line; .jsonl: {"prompt": ...} or {"text": ...}.
void read_prompts(const std::string& path, std::vector<std::string>& prompts) {
  const std::string text = read_file(path);
  const bool jsonl = path.ends_with(".jsonl");
  size_t begin = 0, line_number = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (line.empty()) continue;
    if (!jsonl) {
      prompts.push_back(line);
      continue;
    }
    const std::string where = str(path, ":", line_number);
    const Json object = json_object(parse_json(line, where), where);
    const char* key = object.contains("prompt") ? "prompt" : "text";
    HADAL_CHECK(object.contains(key), kFormat, where, " has neither \"prompt\" nor \"text\"");
    prompts.push_back(json_string(object[key], str(where, ": ", key)));
  }
}

int run(Options o) {
  finish_generation_args(o.args);
  if (!o.prompt_file.empty()) read_prompts(o.prompt_file, o.prompts);
  HADAL_CHECK(!o.prompts.empty(), kUsage, "no prompt: give -p TEXT or --prompts FILE");
  TextGenerator generator(o.model);
  const uint64_t seed = o.args.options.sampling.seed;
  const bool many = o.prompts.size() * static_cast<size_t>(o.samples) > 1;
  for (const std::string& prompt : o.prompts) {
    for (int64_t s = 0; s < o.samples; ++s) {
      o.args.options.sampling.seed = seed + static_cast<uint64_t>(s);
      const bool stream = !o.json;
      if (stream) std::cout << prompt << std::flush;
      const GeneratedText out = generator.generate(prompt, o.args.options, o.args.stops, !o.plain,
                                                   [&](const std::string& piece) {
                                                     if (stream) std::cout << piece << std::flush;
                                                   });
      if (o.json) {
        print_json(generated_json(prompt, out));
        continue;
      }
      std::cout << (many ? "\n\n" : "\n") << std::flush;
      std::cerr << speed_text(out.stats) << "\n";
    }
  }
  return 0;
}

}  // namespace

void add_generate(Cli& cli) {
  CLI::App* command = add_command(
      cli, "generate", "write text",
      "  hadal generate MODEL -p \"Once upon a time\" -n 200\n"
      "  hadal generate MODEL -p \"Anna has the\" --temperature 0 --speculate off\n"
      "  hadal generate MODEL --prompts questions.jsonl --temperature 0.7 --seed 3 --json\n"
      "The same seed gives the same tokens, with and without speculation.\n");
  auto o = std::make_shared<Options>();
  add_option(command, "MODEL", o->model, "model folder").required();
  add_option(command, "-p,--prompt", o->prompts, "text to go on from; repeatable")
      .type_name("TEXT")
      .repeatable();
  add_option(command, "--prompts", o->prompt_file, "one a line, or .jsonl with \"prompt\"")
      .type_name("FILE");
  add_option(command, "--samples", o->samples, "texts for each prompt, seeds one apart (1)")
      .range(1, int64_t{1} << 20);
  add_generation_args(command, o->args);
  add_flag(command, "--plain", o->plain, "special tokens in the prompt are ordinary text");
  add_threads(command);
  add_json(command, o->json, "one JSON object a text");
  on_run(cli, command, [o] { return run(*o); });
}

}  // namespace hadal
