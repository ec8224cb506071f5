// Runs the program itself: training that is stopped, or started twice. tools/kill_test.py kills it.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include "core/files.h"
#include "core/json.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

// A command of a shell in the background.
class Process {
 public:
  explicit Process(const std::string& command) : folder_(scratch_dir()), pid_(::fork()) {
    if (pid_ != 0) return;
    const std::string line =
        "exec " + command + " > '" + path("out") + "' 2> '" + path("err") + "'";
    ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    ::_exit(127);
  }
  ~Process() {
    if (pid_ > 0) finish(SIGKILL);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  void send(int signal) const { ::kill(pid_, signal); }
  // The exit code, or minus the signal that ended it.
  int finish(int signal = 0) {
    if (signal != 0) send(signal);
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  std::string out() const { return read_file(path("out")); }
  std::string err() const { return read_file(path("err")); }
  bool said(const std::string& text) const {
    return fs::exists(path("err")) && err().find(text) != std::string::npos;
  }

 private:
  std::string path(const char* name) const { return (folder_ / name).string(); }

  fs::path folder_;
  pid_t pid_;
};

template <class Condition>
bool wait_for(Condition condition) {
  for (int i = 0; i < 60'000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

std::string program() {
  return HADAL_BINARY;
}

// The command that trains a small model on a few sentences, which lie in `folder`.
std::string training(const fs::path& folder, const fs::path& run, const std::string& more) {
  const std::string text = (folder / "text.jsonl").string();
  const std::string tokenizer = (folder / "tok" / "tokenizer.json").string();
  if (!fs::exists(text)) {
    std::ofstream file(text);
    for (int i = 0; i < 200; ++i) {
      file << Json{{"text", "The cat number " + std::to_string(i) + " sat on the mat."}} << "\n";
    }
    file.close();
    Process made(program() + " tokenizer train --input " + text + " --vocab-size 300 --out " +
                 tokenizer);
    EXPECT_EQ(made.finish(), 0) << made.err();
  }
  return program() + " train " + (source_dir() / "recipes" / "text_small.toml").string() +
         " --set data.tokenizer=" + tokenizer + " --set 'data.train=[\"" + text +
         "\"]' --set 'data.valid=[]' --set data.valid_share=0.1 --set model.num_hidden_layers=2"
         " --set model.hidden_size=64 --out \"" +
         run.string() + "\" " + more;
}

constexpr const char* kSmall =
    " --set data.sequence_length=32 --set batch.sequences=4 --set batch.micro=2"
    " --set run.steps=100 --set run.checkpoint_every=40";

std::string weights(const fs::path& run) {
  return read_file(run / "model" / "model.safetensors");
}

int64_t lines(const fs::path& path) {
  if (!fs::exists(path)) return 0;
  const std::string text = read_file(path);
  return std::count(text.begin(), text.end(), '\n');
}

TEST(Interrupted, ASignalSavesAndPrintsTheCommandThatGoesOn) {
  const fs::path folder = scratch_dir();
  const fs::path whole = folder / "whole", stopped = folder / "it's stopped";
  Process undisturbed(training(folder, whole, kSmall + std::string(" --threads 1")));
  ASSERT_EQ(undisturbed.finish(), 0) << undisturbed.err();

  const std::string command = training(folder, stopped, kSmall + std::string(" --threads 2"));
  Process first(command);
  ASSERT_TRUE(wait_for([&] { return lines(stopped / "metrics.jsonl") >= 2; })) << first.err();
  first.send(SIGSTOP);
  Process second(command + " --resume");
  EXPECT_EQ(second.finish(), 1);
  EXPECT_TRUE(second.said("is in use by process " + std::to_string(first.pid()))) << second.err();
  first.send(SIGTERM);
  ASSERT_EQ(first.finish(SIGCONT), 0) << first.err();
  EXPECT_TRUE(first.said("stopping after this step"));
  EXPECT_FALSE(fs::exists(stopped / "model")) << "all steps were done before the signal";

  const std::string out = first.out();
  const size_t begin = out.find("\n  ");
  ASSERT_NE(begin, std::string::npos) << out;
  Process more(out.substr(begin + 3, out.find('\n', begin + 1) - begin - 3));
  ASSERT_EQ(more.finish(), 0) << more.err();
  EXPECT_TRUE(weights(stopped) == weights(whole));
}

TEST(Interrupted, ASecondSignalEndsItAtOnce) {
  const fs::path folder = scratch_dir();
  for (const int signal : {SIGINT, SIGTERM}) {
    const fs::path run = folder / std::to_string(signal);
    // Steps that take some tenths of a second.
    Process process(training(folder, run,
                             "--set data.sequence_length=512 --set batch.sequences=16"
                             " --set batch.micro=4 --set data.eval_sequences=1 --threads 1"));
    ASSERT_TRUE(wait_for([&] { return lines(run / "metrics.jsonl") >= 2; }));
    process.send(SIGINT);
    ASSERT_TRUE(wait_for([&] { return process.said("stopping after this step"); }));
    EXPECT_EQ(process.finish(signal), 128 + signal);
    EXPECT_EQ(lines(run / "metrics.jsonl"), 2);  // of steps 0 and 1
  }
}

}  // namespace
}  // namespace hadal
