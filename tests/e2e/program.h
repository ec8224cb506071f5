#pragma once
#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include "core/files.h"
#include "tests/support/testing.h"

namespace hadal {

// What a user sees of one command.
struct Outcome {
  int code = -1;
  std::string out, err;
};

inline Outcome hadal(const std::string& arguments) {
  const fs::path folder = scratch_dir();
  const std::string command = "XDG_CACHE_HOME='" + folder.string() + "' " + HADAL_BINARY + " " +
                              arguments + " > '" + (folder / "out").string() + "' 2> '" +
                              (folder / "err").string() + "'";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(folder / "out"),
          read_file(folder / "err")};
}

}  // namespace hadal
