#include "cli/command.h"

#include <vector>

#include "cli/app.h"

namespace hadal {
namespace {

std::string shell_word(const std::string& word) {
  constexpr const char* kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace

CliOption& CliOption::required() {
  option_->required();
  return *this;
}

CliOption& CliOption::type_name(const std::string& name) {
  option_->type_name(name);
  return *this;
}

CliOption& CliOption::one_of(std::initializer_list<const char*> values) {
  option_->check(CLI::IsMember(std::vector<std::string>(values.begin(), values.end())));
  return *this;
}

CliOption& CliOption::real_range(double least, double most) {
  option_->check(CLI::Range(least, most));
  return *this;
}

CliOption& CliOption::excludes(const std::string& other) {
  option_->excludes(other);
  return *this;
}

CliOption& CliOption::range(int64_t least, int64_t most) {
  option_->check(CLI::Range(least, most));
  return *this;
}

CliOption& CliOption::repeatable() {
  option_->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  return *this;
}

CliOption& CliOption::delimiter(char c) {
  option_->delimiter(c);
  return *this;
}

CLI::App* add_command(Cli& cli, const std::string& name, const std::string& description,
                      const std::string& examples) {
  return add_command(&cli.app, name, description, examples);
}

CLI::App* add_command(CLI::App* group, const std::string& name, const std::string& description,
                      const std::string& examples) {
  CLI::App* command = group->add_subcommand(name, description);
  if (!examples.empty()) command->footer("Examples:\n" + examples);
  return command;
}

CLI::App* add_command_group(Cli& cli, const std::string& name, const std::string& description) {
  CLI::App* group = add_command(cli, name, description, "");
  group->require_subcommand(1);
  return group;
}

void on_run(Cli& cli, CLI::App* command, std::function<int()> run) {
  command->callback([&cli, run = std::move(run)] { cli.run = run; });
}

std::string command_line(const Cli& cli) {
  std::string line;
  for (const std::string& word : cli.line) line += (line.empty() ? "" : " ") + shell_word(word);
  return line;
}

template <class T>
CliOption add_option(CLI::App* command, const std::string& names, T& value,
                     const std::string& description) {
  return CliOption(command->add_option(names, value, description));
}

void add_flag(CLI::App* command, const std::string& names, bool& value,
              const std::string& description) {
  command->add_flag(names, value, description);
}

#define HADAL_OPTION_OF(...)                                                                     \
  template CliOption add_option(CLI::App* command, const std::string& names, __VA_ARGS__& value, \
                                const std::string& description)
HADAL_OPTION_OF(std::string);
HADAL_OPTION_OF(int64_t);
HADAL_OPTION_OF(uint64_t);
HADAL_OPTION_OF(double);
HADAL_OPTION_OF(std::vector<std::string>);
HADAL_OPTION_OF(std::vector<int32_t>);
#undef HADAL_OPTION_OF

}  // namespace hadal
