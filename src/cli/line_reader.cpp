#include "cli/line_reader.h"

#include <histedit.h>
#include <unistd.h>

#include <csignal>
#include <iostream>

namespace hadal {
namespace {

constexpr int kHistoryLines = 1000;
volatile std::sig_atomic_t interrupted = 0;

void on_interrupt(int) {
  interrupted = 1;
}

}  // namespace

struct LineReader::Terminal {
  Terminal() : edit(el_init("hadal", stdin, stdout, stderr)), history(history_init()) {
    HistEvent event;
    ::history(history, &event, H_SETSIZE, kHistoryLines);
    el_set(edit, EL_CLIENTDATA, this);
    el_set(
        edit, EL_PROMPT, +[](EditLine* line) -> char* {
          void* self = nullptr;
          el_get(line, EL_CLIENTDATA, &self);
          return static_cast<Terminal*>(self)->prompt.data();
        });
    el_set(edit, EL_EDITOR, "emacs");
    el_set(edit, EL_HIST, ::history, history);
  }
  ~Terminal() {
    history_end(history);
    el_end(edit);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  EditLine* edit;
  History* history;
  std::string prompt;
};

LineReader::LineReader() {
  if (isatty(STDIN_FILENO) != 0) terminal_ = std::make_unique<Terminal>();
}
LineReader::~LineReader() = default;

std::optional<std::string> LineReader::read(const std::string& prompt) {
  std::string line;
  if (terminal_ == nullptr) {
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }
  terminal_->prompt = prompt;
  int length = 0;
  interrupted = 0;
  const char* text = el_gets(terminal_->edit, &length);
  if (text == nullptr || length <= 0) {
    if (interrupted == 0) return std::nullopt;
    std::cout << "\n";
    return "";
  }
  line.assign(text, static_cast<size_t>(length));
  HistEvent event;
  if (line.find_first_not_of(" \n") != line.npos) {
    ::history(terminal_->history, &event, H_ENTER, text);
  }
  while (line.ends_with('\n')) line.pop_back();
  return line;
}

CatchInterrupt::CatchInterrupt() {
  interrupted = 0;
  struct sigaction action = {};
  action.sa_handler = on_interrupt;  // without SA_RESTART: reading a line ends
  sigaction(SIGINT, &action, nullptr);
}
CatchInterrupt::~CatchInterrupt() {
  std::signal(SIGINT, SIG_DFL);
}
bool CatchInterrupt::happened() {
  return interrupted != 0;
}

void CatchInterrupt::forget() {
  interrupted = 0;
}

}  // namespace hadal
