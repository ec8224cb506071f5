// hadal generate: text from a model, streamed.
#include <fmt/format.h>

#include <chrono>
#include <iostream>

#include "cli/command.h"
#include "cli/generation.h"
#include "cli/options.h"
#include "cli/text_printer.h"
#include "core/files.h"

namespace hadal {
namespace {

struct GenerateArguments {
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

int run_generate(GenerateArguments o) {
  finish_generation_args(o.args);
  if (!o.prompt_file.empty()) read_prompts(o.prompt_file, o.prompts);
  HADAL_CHECK(!o.prompts.empty(), kUsage, "no prompt: give -p TEXT or --prompts FILE");
  TextGenerator generator(o.model, o.args.engine, o.args.allow_paging);
  TextPrinter printer(o.prompts, o.samples, o.json);
  const auto start = std::chrono::steady_clock::now();
  for (size_t p = 0; p < o.prompts.size(); ++p) {
    TextRequest request;
    request.prompt = o.prompts[p];
    request.special = !o.plain;
    request.request = o.args.request;
    request.request.samples = o.samples;
    request.stops = o.args.stops;
    const auto place = [p, &o](int64_t sample) {
      return p * static_cast<size_t>(o.samples) + static_cast<size_t>(sample);
    };
    request.on_text = [=, &printer](int64_t s, const std::string& text) {
      printer.piece(place(s), text);
    };
    request.on_end = [=, &printer](int64_t s, const GeneratedText& out) {
      printer.end(place(s), out);
    };
    generator.submit(request);
  }
  generator.run();
  const EngineStats stats = generator.stats();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  if (!o.json && o.prompts.size() * static_cast<size_t>(o.samples) > 1) {
    std::cerr << fmt::format("{} tokens in all, {:.1f} tokens/s; {:.0f}% of the prompts cached\n",
                             stats.generated_tokens,
                             static_cast<double>(stats.generated_tokens) / elapsed.count(),
                             100 * stats.hit_rate());
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
      "The same seed gives the same tokens, alone and beside others, with and without "
      "speculation.\n");
  auto o = std::make_shared<GenerateArguments>();
  add_option(command, "MODEL", o->model, "model folder").required();
  add_option(command, "-p,--prompt", o->prompts, "text to go on from; repeatable")
      .type_name("TEXT")
      .repeatable();
  add_option(command, "--prompts", o->prompt_file, "one a line, or .jsonl with \"prompt\"")
      .type_name("FILE");
  add_option(command, "--samples", o->samples, "texts for each prompt, seeds one apart (1)")
      .range(1, 4096);
  add_generation_args(command, o->args);
  add_flag(command, "--plain", o->plain, "special tokens in the prompt are ordinary text");
  add_threads(command);
  add_json(command, o->json, "one JSON object a text");
  on_run(cli, command, [o] { return run_generate(*o); });
}

}  // namespace hadal
