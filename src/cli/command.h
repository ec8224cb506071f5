#pragma once
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>

// NOLINTNEXTLINE(readability-identifier-naming): the library's
namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace hadal {

struct Cli;

// How a sub-command says what it takes. CLI11 stays behind these: it is nothing but headers, and
// would add seconds to the compilation of every command.

// One option, as add_option returns it; what is said of it can be chained.
class CliOption {
 public:
  explicit CliOption(CLI::Option* option) : option_(option) {}

  CliOption& required();
  CliOption& type_name(const std::string& name);
  CliOption& one_of(std::initializer_list<const char*> values);
  CliOption& range(int64_t least, int64_t most);
  CliOption& real_range(double least, double most);
  CliOption& excludes(const std::string& other);
  CliOption& repeatable();  // --name A --name B
  CliOption& delimiter(char c);

 private:
  CLI::Option* option_;
};

// Adds a sub-command. A file of cli/ does this in a function add_NAME(Cli&), listed once in
// app.cpp.
CLI::App* add_command(Cli& cli, const std::string& name, const std::string& description,
                      const std::string& examples);
// One with sub-commands of its own, of which one must be given.
CLI::App* add_command_group(Cli& cli, const std::string& name, const std::string& description);
CLI::App* add_command(CLI::App* group, const std::string& name, const std::string& description,
                      const std::string& examples);
// `run` returns the exit code; errors are thrown.
void on_run(Cli& cli, CLI::App* command, std::function<int()> run);

// The line that started the program, to be typed again in a shell.
std::string command_line(const Cli& cli);

// "--name,-n", or "NAME" for what stands without one. `value` lives as long as the command. T is
// std::string, int64_t, uint64_t, double, or a vector of std::string or int32_t.
template <class T>
CliOption add_option(CLI::App* command, const std::string& names, T& value,
                     const std::string& description);
void add_flag(CLI::App* command, const std::string& names, bool& value,
              const std::string& description);

}  // namespace hadal
