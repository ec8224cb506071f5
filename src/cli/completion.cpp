// hadal completion: what a shell offers at TAB, made from the commands themselves.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>

#include "cli/app.h"

namespace hadal {
namespace {

struct CompletionEntry {
  std::string command, description;
  std::vector<std::string> words;  // options and sub-commands
};

std::vector<CompletionEntry> entries_of(const CLI::App& app) {
  std::vector<CompletionEntry> entries;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    CompletionEntry entry{command->get_name(), command->get_description(), {}};
    const std::function<void(const CLI::App*)> collect = [&](const CLI::App* part) {
      for (const CLI::Option* option : part->get_options()) {
        for (const std::string& name : option->get_lnames()) entry.words.push_back("--" + name);
      }
      for (const CLI::App* inner : part->get_subcommands([](const CLI::App*) { return true; })) {
        if (!inner->get_name().empty()) entry.words.push_back(inner->get_name());
        collect(inner);
      }
    };
    collect(command);
    std::sort(entry.words.begin(), entry.words.end());
    entry.words.erase(std::unique(entry.words.begin(), entry.words.end()), entry.words.end());
    entries.push_back(std::move(entry));
  }
  return entries;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

std::string bash_script(const std::vector<CompletionEntry>& entries) {
  std::string cases, commands;
  for (const CompletionEntry& e : entries) {
    commands += (commands.empty() ? "" : " ") + e.command;
    cases += fmt::format("    {}) words=\"{}\" ;;\n", e.command, joined(e.words));
  }
  return fmt::format(
      "_hadal() {{\n"
      "  local word=\"${{COMP_WORDS[COMP_CWORD]}}\" words=\"{} --help --version\"\n"
      "  if [ \"$COMP_CWORD\" -gt 1 ]; then\n"
      "    case \"${{COMP_WORDS[1]}}\" in\n{}    *) words=\"\" ;;\n    esac\n"
      "  fi\n"
      "  if [ \"$COMP_CWORD\" -gt 1 ] && [ \"${{word#-}}\" = \"$word\" ]; then\n"
      "    COMPREPLY=($(compgen -f -- \"$word\") $(compgen -W \"$words\" -- \"$word\"))\n"
      "  else\n"
      "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
      "  fi\n"
      "}}\n"
      "complete -o filenames -F _hadal hadal\n",
      commands, cases);
}

std::string zsh_script(const std::vector<CompletionEntry>& entries) {
  std::string cases, commands;
  for (const CompletionEntry& e : entries) {
    commands += fmt::format("    '{}:{}'\n", e.command, e.description);
    cases += fmt::format("    {}) compadd -- {}; _files ;;\n", e.command, joined(e.words));
  }
  return fmt::format(
      "#compdef hadal\n"
      "_hadal() {{\n"
      "  local -a commands=(\n{}  )\n"
      "  if (( CURRENT == 2 )); then\n"
      "    _describe command commands\n"
      "    return\n"
      "  fi\n"
      "  case \"$words[2]\" in\n{}  esac\n"
      "}}\n"
      "compdef _hadal hadal\n",
      commands, cases);
}

std::string fish_script(const std::vector<CompletionEntry>& entries) {
  std::string text;
  for (const CompletionEntry& e : entries) {
    text += fmt::format("complete -c hadal -n __fish_use_subcommand -a {} -d '{}'\n", e.command,
                        e.description);
    for (const std::string& word : e.words) {
      const bool option = word.starts_with("--");
      text += fmt::format("complete -c hadal -n '__fish_seen_subcommand_from {}' {} {}\n",
                          e.command, option ? "-l" : "-a", option ? word.substr(2) : word);
    }
  }
  return text;
}

}  // namespace

void add_completion(Cli& cli) {
  CLI::App* command = add_command(cli, "completion", "print a shell's completion script",
                                  "  source <(hadal completion bash)\n");
  auto shell = std::make_shared<std::string>();
  add_option(command, "SHELL", *shell, "bash, zsh or fish")
      .required()
      .one_of({"bash", "zsh", "fish"});
  on_run(cli, command, [&cli, shell] {
    const std::vector<CompletionEntry> entries = entries_of(cli.app);
    std::cout << (*shell == "bash"  ? bash_script(entries)
                  : *shell == "zsh" ? zsh_script(entries)
                                    : fish_script(entries));
    return 0;
  });
}

}  // namespace hadal
