// hadal chat: a conversation with a model.
#include <fmt/format.h>
#include <unistd.h>

#include <iostream>

#include "cli/command.h"
#include "cli/generation.h"
#include "cli/line_reader.h"
#include "cli/options.h"
#include "cli/reply_printer.h"
#include "core/files.h"
#include "text/chat_template.h"

namespace hadal {
namespace {

constexpr const char* kHelp =
    "/reset          forget the conversation\n"
    "/system TEXT    what the model is told first; forgets the conversation\n"
    "/save FILE      the conversation as JSON, for hadal template\n"
    "/exit           or the end of the input\n"
    "Ctrl-C stops a reply.\n";

struct ChatArguments {
  std::string model, template_file, system;
  GenerationArgs args;
};

class Chat {
 public:
  explicit Chat(ChatArguments o)
      : o_(std::move(o)),
        template_(ChatTemplate::load(o_.template_file.empty() ? o_.model : o_.template_file,
                                     config_beside_model())),
        generator_(o_.model, o_.args.engine, o_.args.allow_paging) {
    reset();
  }

  int run() {
    LineReader lines;
    const CatchInterrupt guard;
    if (isatty(STDIN_FILENO) != 0) std::cerr << "/help shows what there is.\n";
    while (const auto line = lines.read("> ")) {
      if (line->empty()) continue;
      if (*line == "/exit") break;
      try {
        if (line->starts_with('/')) {
          command(*line);
        } else {
          reply(*line);
        }
      } catch (const Error& e) {  // the conversation goes on
        std::cerr << "error: " << e.what() << "\n";
        failed_ = true;
      }
    }
    return failed_ && isatty(STDIN_FILENO) == 0 ? 1 : 0;
  }

 private:
  fs::path config_beside_model() const {
    const fs::path file = fs::path(o_.model) / "tokenizer_config.json";
    return !o_.template_file.empty() && fs::exists(file) ? file : fs::path();
  }

  void reset() {
    messages_ = OrderedJson::array();
    if (!o_.system.empty()) messages_.push_back({{"role", "system"}, {"content", o_.system}});
  }

  void command(const std::string& line) {
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    const std::string rest = space == line.npos ? "" : line.substr(space + 1);
    if (name == "/help") {
      std::cout << kHelp << std::flush;
    } else if (name == "/reset") {
      reset();
    } else if (name == "/system") {
      o_.system = rest;
      reset();
    } else if (name == "/save") {
      HADAL_CHECK(!rest.empty(), kUsage, "/save needs the name of a file");
      write_file_atomically(rest, OrderedJson{{"messages", messages_}}.dump() + "\n");
    } else {
      throw Error(ErrorKind::kUsage, str("no command ", name, "; /help shows what there is"));
    }
  }

  // The exchange is remembered only when there was a reply.
  void reply(const std::string& text) {
    OrderedJson messages = messages_;
    messages.push_back({{"role", "user"}, {"content", text}});
    const std::string prompt =
        template_.render({{"messages", messages}, {"add_generation_prompt", true}});
    TextRequest request;
    request.prompt = prompt;
    request.request = o_.args.request;
    request.stops = o_.args.stops;
    GeneratedText out;
    CatchInterrupt::forget();
    {
      ReplyPrinter printer(prompt.ends_with("<think>\n") || prompt.ends_with("<think>"));
      request.on_text = [&](int64_t, const std::string& piece) { printer.print(piece); };
      out = generator_.generate(request, CatchInterrupt::happened);
    }
    std::cout << "\n" << std::flush;
    const int64_t context = generator_.model().config().max_position_embeddings;
    std::cerr << fmt::format("[{}; context {} of {}, {} from the cache]\n", speed_text(out.stats),
                             out.stats.prompt_tokens + out.stats.tokens, context,
                             out.stats.cached_tokens);
    messages.push_back({{"role", "assistant"}, {"content", out.text}});
    messages_ = std::move(messages);
  }

  ChatArguments o_;
  ChatTemplate template_;
  TextGenerator generator_;
  OrderedJson messages_;
  bool failed_ = false;
};

}  // namespace

void add_chat(Cli& cli) {
  CLI::App* command = add_command(cli, "chat", "talk with a model",
                                  "  hadal chat MODEL --temperature 0.7\n"
                                  "  echo \"What is 2 + 2?\" | hadal chat MODEL\n");
  auto o = std::make_shared<ChatArguments>();
  o->args.request.max_tokens = 1024;
  add_option(command, "MODEL", o->model, "model folder").required();
  add_option(command, "--template", o->template_file, "chat template instead of the model's")
      .type_name("FILE");
  add_option(command, "--system", o->system, "what the model is told first").type_name("TEXT");
  add_generation_args(command, o->args);
  add_flag(command, "--reuse-generated", o->args.engine.reuse_generated,
           "keep replies in the prefix cache too: later turns begin sooner, and may differ in "
           "their last bits");
  add_threads(command);
  on_run(cli, command, [o] {
    finish_generation_args(o->args);
    return Chat(*o).run();
  });
}

}  // namespace hadal
