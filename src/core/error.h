#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace hadal {

// What went wrong, in the caller's terms; decides the exit code and, in the server, the status.
enum class ErrorKind {
  kUsage,     // a command line, a recipe or a request that asks for something impossible
  kConfig,    // a model's config.json that contradicts itself or names something unknown
  kShape,     // a tensor whose shape or dtype is not the promised one
  kFormat,    // a file that breaks its own format
  kIo,        // the operating system refused to read or write
  kResource,  // out of memory, disk or cache
  kNumbers,   // what was computed is not finite
  kComm,      // another rank failed
  kInternal,  // a broken promise inside Hadal
};

// The only exception type the library throws. The message names the thing, the value that was
// found and what was expected.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& what) : std::runtime_error(what), kind_(kind) {}
  ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

template <class... Parts>
std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace hadal

// Checks a caller's promise; always on. Use once per call, never inside a loop over elements.
#define HADAL_CHECK(cond, kind, ...)                                             \
  do {                                                                           \
    if (!(cond)) [[unlikely]]                                                    \
      throw ::hadal::Error(::hadal::ErrorKind::kind, ::hadal::str(__VA_ARGS__)); \
  } while (false)
