#pragma once
#include <memory>
#include <optional>
#include <string>

namespace hadal {

// Lines from standard input: with editing and a history on a terminal, else as they are.
class LineReader {
 public:
  LineReader();
  ~LineReader();
  // Nothing at the end of the input. Ctrl-C gives an empty line.
  std::optional<std::string> read(const std::string& prompt);

 private:
  struct Terminal;
  std::unique_ptr<Terminal> terminal_;  // null: standard input is no terminal
};

// While it lives, Ctrl-C sets a flag instead of ending the program.
class CatchInterrupt {
 public:
  CatchInterrupt();
  ~CatchInterrupt();
  static bool happened();
  static void forget();
};

}  // namespace hadal
