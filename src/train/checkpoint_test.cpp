#include "train/checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/parallel.h"
#include "tests/support/crash_disk.h"
#include "tests/support/tiny_run.h"

namespace hadal {
namespace {

class Checkpoints : public testing::Test {
  QuickDisk disk_;
  ScopedDisk scope_{disk_};
};

fs::path newest(const fs::path& run) {
  std::vector<std::string> passed_over;
  const auto folder = newest_checkpoint(run, passed_over);
  EXPECT_TRUE(folder.has_value());
  EXPECT_TRUE(passed_over.empty()) << passed_over.front();
  return folder.value_or("");
}

void flip_bit(const fs::path& path, size_t byte, int bit) {
  std::string bytes = read_file(path);
  bytes[byte] = static_cast<char>(bytes[byte] ^ (1 << bit));
  write_file_atomically(path, bytes);
}

// Saved and taken up again every third step, on another number of threads each time.
TEST_F(Checkpoints, ResumedAgainAndAgainGivesTheSameBits) {
  for (const char* precision : {"fp32", "bf16"}) {
    const fs::path run = scratch_dir() / precision;
    TrainRecipe r = tiny_recipe();
    r.run.precision = precision;
    r.run.steps = 12;
    Bench straight(r);
    straight.steps(12);
    for (int part = 0; part < 4; ++part) {
      const ScopedThreads scope(part % 3 + 1);
      Bench bench(r);
      bench.model.params().initialise(99, 0.3);  // all of it must come from the checkpoint
      if (part == 0) prepare_training(bench.model.params(), r);
      bench.trainer.weights_changed();
      if (part > 0) load_checkpoint(bench.trainer, newest(run));
      EXPECT_EQ(bench.trainer.state().step, 3 * part);
      bench.steps(3);
      save_checkpoint(bench.trainer, run, {});
    }
    Bench last(r);
    load_checkpoint(last.trainer, newest(run));
    EXPECT_EQ(snapshot(last.trainer), snapshot(straight.trainer));
    const auto biases =
        straight.model.params().find("model.layers.1.mlp.gate.e_score_correction_bias");
    ASSERT_NE(biases, nullptr);
    EXPECT_NE(biases->vec().data()[0], 0) << "there is a bias to lose";
    EXPECT_EQ(last.trainer.last_loads()[0].counts, straight.trainer.last_loads()[0].counts);
  }
}

TEST_F(Checkpoints, KeepsTheNewestAndPassesOverBrokenSets) {
  const fs::path run = scratch_dir();
  Bench bench;
  for (int i = 0; i < 3; ++i) {
    bench.steps(1);
    save_checkpoint(bench.trainer, run, {});
  }
  EXPECT_EQ(checkpoint_steps(run), (std::vector<int64_t>{3, 2}));
  EXPECT_ERROR(save_checkpoint(bench.trainer, run, {}), kUsage, "step-3 is there already");
  fs::create_directories(run / "checkpoints" / "step-9.tmp-1");
  fs::remove(run / "checkpoints" / "step-3" / "manifest.json");
  std::vector<std::string> passed_over;
  EXPECT_EQ(newest_checkpoint(run, passed_over)->filename(), "step-2");
  ASSERT_EQ(passed_over.size(), 1u);
  EXPECT_NE(passed_over[0].find("step-3"), std::string::npos);
  EXPECT_ERROR(checkpoint_of_step(run, 7), kUsage, "there are: 3, 2");
  EXPECT_ERROR(checkpoint_of_step(run, 3), kIo, "manifest.json: No such file");
}

TEST_F(Checkpoints, TheBestStays) {
  const fs::path run = scratch_dir();
  TrainRecipe r = tiny_recipe();
  r.run.keep = 1;
  Bench bench(r);
  const auto save = [&] {
    bench.steps(1);
    bench.trainer.evaluate();
    save_checkpoint(bench.trainer, run, {});
  };
  save();
  save();
  EXPECT_EQ(checkpoint_steps(run), std::vector<int64_t>{2}) << "the newest is the best";
  bench.model.params().initialise(5, 2);  // much worse
  save();
  save();
  EXPECT_EQ(checkpoint_steps(run), (std::vector<int64_t>{4, 2}));
  bench.steps(1);
  save_checkpoint(bench.trainer, run, {});  // nobody knows how good
  EXPECT_EQ(checkpoint_steps(run), (std::vector<int64_t>{5, 2}));
}

TEST_F(Checkpoints, AFlippedBitAnywhereIsSeenAndTheOlderOneTaken) {
  const fs::path run = scratch_dir();
  Bench bench;
  for (int i = 0; i < 2; ++i) {
    bench.steps(1);
    bench.trainer.evaluate();
    save_checkpoint(bench.trainer, run, {});
  }
  const std::vector<fs::path> files = list_folder(newest(run));
  EXPECT_EQ(files.size(), 7u);
  for (const fs::path& file : files) {
    const size_t size = read_file(file).size();
    const size_t every = file.filename() == "manifest.json" ? 5 : size / 8 + 1;
    for (size_t byte = 0, bit = 0; byte < size; byte += every, bit = (bit + 1) % 8) {
      flip_bit(file, byte, static_cast<int>(bit));
      std::vector<std::string> passed_over;
      EXPECT_EQ(newest_checkpoint(run, passed_over)->filename(), "step-1")
          << file << " byte " << byte << " bit " << bit;
      ASSERT_EQ(passed_over.size(), 1u);
      EXPECT_NE(passed_over[0].find("step-2"), std::string::npos);
      EXPECT_NE(passed_over[0].find(file.filename().string()), std::string::npos);
      flip_bit(file, byte, static_cast<int>(bit));
    }
  }
  EXPECT_EQ(newest(run).filename(), "step-2");
}

TEST_F(Checkpoints, WhenNoneIsWholeThatIsAnError) {
  const fs::path run = scratch_dir();
  std::vector<std::string> passed_over;
  EXPECT_FALSE(newest_checkpoint(run, passed_over).has_value());
  Bench bench;
  bench.steps(1);
  flip_bit(save_checkpoint(bench.trainer, run, {}) / "state.json", 5, 0);
  EXPECT_ERROR(newest_checkpoint(run, passed_over), kFormat, "state.json has another hash");
  Bench other;
  EXPECT_ERROR(load_checkpoint(other.trainer, run / "checkpoints" / "step-1"), kFormat,
               "state.json has another hash");
}

// Never taken for damage: an older one would be taken, and the newer set aside.
TEST_F(Checkpoints, AnotherVersionIsAnError) {
  const fs::path run = scratch_dir();
  Bench bench;
  bench.steps(1);
  save_checkpoint(bench.trainer, run, {});
  make_folder(run / "checkpoints" / "step-9");
  write_file_atomically(run / "checkpoints" / "step-9" / "manifest.json",
                        R"({"format": "hadal-checkpoint-1", "step": 9, "files": []})");
  std::vector<std::string> passed_over;
  EXPECT_ERROR(newest_checkpoint(run, passed_over), kFormat, "another version of hadal");
}

TEST_F(Checkpoints, AnotherRecipeAndOtherDataAreRefusedUnlessAllowed) {
  const fs::path run = scratch_dir();
  Bench bench;
  bench.steps(1);
  const fs::path folder = save_checkpoint(bench.trainer, run, {});
  TrainRecipe other = tiny_recipe();
  other.optim.lr = 0.5;
  Bench stranger(other);
  EXPECT_ERROR(load_checkpoint(stranger.trainer, folder), kUsage,
               "optim.lr = 0.01, which is 0.5 now");
  load_checkpoint(stranger.trainer, folder, std::vector<std::string>{"optim.lr"});
  EXPECT_EQ(snapshot(stranger.trainer), snapshot(bench.trainer));

  TokenDocuments more = corpus(1);
  more.add(std::vector<int32_t>{1, 2, 3});
  TokenSource data(std::move(more), {kLength, 1, 7, true});
  Trainer elsewhere(stranger.model, tiny_recipe(), data);
  EXPECT_ERROR(load_checkpoint(elsewhere, folder), kUsage, "--allow data.train");
  load_checkpoint(elsewhere, folder, std::vector<std::string>{"data.train"});

  TokenDocuments changed = corpus(1);
  changed.ids[5] ^= 1;  // as many tokens as before
  TokenSource edited(std::move(changed), {kLength, 1, 7, true});
  Trainer with_edited(stranger.model, tiny_recipe(), edited);
  EXPECT_ERROR(load_checkpoint(with_edited, folder), kUsage, "--allow data.train");
}

TEST_F(Checkpoints, ItsSizeIsKnownBefore) {
  Bench bench;
  const fs::path folder = save_checkpoint(bench.trainer, scratch_dir(), {});
  int64_t bytes = 0;
  for (const fs::path& file : list_folder(folder)) bytes += InputFile(file).size();
  EXPECT_GE(checkpoint_bytes(bench.trainer, {}), bytes);
  EXPECT_LE(checkpoint_bytes(bench.trainer, {}), bytes + (64 << 10));
}

}  // namespace
}  // namespace hadal
