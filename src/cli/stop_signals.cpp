#include "cli/stop_signals.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>

namespace hadal {
namespace {

// A signal handler can reach nothing else.
std::atomic<bool> g_requested{false};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
static_assert(std::atomic<bool>::is_always_lock_free, "it is used in a signal handler");

// Only what may be done while anything else is interrupted.
void on_signal(int number) {
  if (g_requested.exchange(true)) ::_exit(128 + number);
  constexpr char kSaid[] = "\nstopping after this step; the same again stops at once\n";
  const int before = errno;
  if (::write(STDERR_FILENO, kSaid, sizeof kSaid - 1) < 0) errno = before;
}

void handle(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  for (const int number : {SIGINT, SIGTERM}) ::sigaction(number, &action, nullptr);
}

}  // namespace

StopSignals::StopSignals() {
  g_requested = false;
  handle(on_signal);
}

StopSignals::~StopSignals() {
  handle(SIG_DFL);
}

bool StopSignals::requested() const {
  return g_requested;
}

}  // namespace hadal
