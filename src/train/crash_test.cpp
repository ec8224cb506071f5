// What is left of a save that was broken off, or that the disk refused.
#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "tests/support/crash_disk.h"
#include "tests/support/tiny_run.h"
#include "train/checkpoint.h"

namespace hadal {
namespace {

// Of few tensors: each is written by one operation, and each operation is a crash.
TrainRecipe recipe() {
  TrainRecipe r = tiny_recipe();
  r.run.steps = 5;
  r.run.keep = 1;
  for (const char* one : {"num_hidden_layers", "n_group", "topk_group", "num_experts_per_tok"}) {
    r.model[one] = 1;
  }
  r.model["n_routed_experts"] = 2;
  r.model["first_k_dense_replace"] = 0;
  r.model["num_nextn_predict_layers"] = 0;
  return r;
}

// The run that nothing happens to, after each of its steps.
const std::map<int64_t, Snapshot>& undisturbed() {
  static const std::map<int64_t, Snapshot> all = [] {
    std::map<int64_t, Snapshot> steps;
    Bench bench(recipe());
    for (int64_t step = 1; step <= 5; ++step) {
      bench.steps(1);
      steps[step] = snapshot(bench.trainer);
    }
    return steps;
  }();
  return all;
}

// Resumes from what is in `run`: nothing there is damaged or in the way.
void expect_resumes(const fs::path& run, int64_t at_least, int64_t at_most, bool to_the_end) {
  static Bench bench(recipe());
  bench.model.params().initialise(99, 0.3);
  std::vector<std::string> passed_over;
  const auto newest = newest_checkpoint(run, passed_over);
  ASSERT_TRUE(newest.has_value());
  ASSERT_TRUE(passed_over.empty()) << passed_over.front();
  load_checkpoint(bench.trainer, *newest);
  const int64_t step = bench.trainer.state().step;
  ASSERT_GE(step, at_least);
  ASSERT_LE(step, at_most);
  ASSERT_EQ(snapshot(bench.trainer), undisturbed().at(step));
  if (!to_the_end) return;
  QuickDisk quick;
  const ScopedDisk scope(quick);
  remove_unfinished_checkpoints(run);
  while (!bench.trainer.done()) {
    bench.steps(1);
    save_checkpoint(bench.trainer, run, {});
  }
  ASSERT_EQ(snapshot(bench.trainer), undisturbed().at(5));
  for (const fs::path& path : list_folder(run / "checkpoints")) {
    ASSERT_EQ(path.string().find(".tmp-"), std::string::npos) << path;
  }
}

// Two saves and the removal of an older one: whatever operation is the last, and whatever of it
// reaches the disk, the run goes on from the newest save that came to its end, or a newer one.
TEST(Crash, ASaveBrokenOffAnywhereLosesNothing) {
  const fs::path run = scratch_dir(), left = scratch_dir();
  Bench bench(recipe());
  bench.steps(1);
  bench.trainer.evaluate();  // the only one that is known to be good: it stays
  save_checkpoint(bench.trainer, run, {});

  CrashDisk disk(run);
  int64_t saved = 1, count = 0;
  std::set<std::pair<int64_t, CrashDisk::Contents>> seen;
  using Left = CrashDisk::Left;
  disk.on_change = [&] {
    if (disk.last_was_write() && disk.writes() % 8 != 0) return;
    for (const Left what :
         {Left::kAll, Left::kNothing, Left::kNames, Left::kZeros, Left::kSome, Left::kSome}) {
      ++count;
      const CrashDisk::Contents contents = disk.left(what, static_cast<uint64_t>(count));
      if (!seen.insert({saved, contents}).second) continue;
      const fs::path folder = left / std::to_string(count);
      CrashDisk::put(contents, folder);
      expect_resumes(folder, saved, bench.trainer.state().step, seen.size() % 20 == 0);
      fs::remove_all(folder);
      if (testing::Test::HasFatalFailure()) {
        FAIL() << "after operation " << disk.operations() << ", kind of crash " << int(what);
      }
    }
  };
  const ScopedDisk scope(disk);
  for (; saved < 3 && !testing::Test::HasFatalFailure(); ++saved) {
    bench.steps(1);
    save_checkpoint(bench.trainer, run, {});
  }
  EXPECT_GT(disk.operations(), 200);
  EXPECT_GT(seen.size(), 100u);
  EXPECT_EQ(checkpoint_steps(run), (std::vector<int64_t>{3, 1}));
}

// A full disk and a broken one, at each operation of a save in turn.
void fail_everywhere(int reason) {
  const fs::path before = scratch_dir(), runs = scratch_dir();
  Bench bench(recipe());
  bench.steps(1);
  save_checkpoint(bench.trainer, before, {});
  bench.steps(1);
  const std::string said = std::generic_category().message(reason);
  for (int64_t at = 0;; ++at) {
    SCOPED_TRACE("operation " + std::to_string(at));
    const fs::path run = runs / std::to_string(at);
    fs::copy(before, run, fs::copy_options::recursive);
    FailingDisk disk(at, reason, at % 2 == 1);
    std::string error;
    {
      const ScopedDisk scope(disk);
      try {
        save_checkpoint(bench.trainer, run, {});
      } catch (const Error& e) {
        EXPECT_EQ(int(e.kind()), int(ErrorKind::kIo));
        error = e.what();
      }
    }
    if (!disk.failed()) {
      EXPECT_EQ(error, "");
      EXPECT_GT(at, 80) << "operations of a save";
      return;
    }
    if (!disk.was_removal()) {
      EXPECT_NE(error.find(said), std::string::npos) << error;
      EXPECT_NE(error.find(run.string()), std::string::npos) << error;
      for (const fs::path& path : list_folder(run / "checkpoints")) {
        EXPECT_EQ(path.string().find(".tmp-"), std::string::npos) << path;
      }
    }
    expect_resumes(run, 1, 2, at % 7 == 0);
    fs::remove_all(run);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(Crash, AFullDiskLeavesWhatWasThere) {
  fail_everywhere(ENOSPC);
}

TEST(Crash, ABrokenDiskLeavesWhatWasThere) {
  fail_everywhere(EIO);
}

}  // namespace
}  // namespace hadal
