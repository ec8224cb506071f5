#include "train/run.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <memory>
#include <sstream>

#include "core/disk.h"
#include "core/parallel.h"
#include "tests/support/crash_disk.h"
#include "tests/support/tiny_run.h"
#include "text/bpe_trainer.h"
#include "train/checkpoint.h"

namespace hadal {
namespace {

class TrainRuns : public testing::Test {
  QuickDisk disk_;
  ScopedDisk scope_{disk_};
};

// A folder with a text and a tokenizer of it.
fs::path prepared() {
  static const fs::path folder = [] {
    const fs::path made = scratch_dir();
    BpeTrainOptions options;
    options.vocab_size = 280;
    BpeTrainer trainer(options);
    std::string lines;
    for (int i = 0; i < 60; ++i) {
      const std::string text = str("The cat number ", i, " sat on mat ", i % 7, ".");
      trainer.add(text);
      lines += Json{{"text", text}}.dump() + "\n";
    }
    write_file_atomically(made / "text.jsonl", lines);
    write_file_atomically(made / "tokenizer.json", trainer.train().tokenizer_json);
    write_file_atomically(made / "tokenizer_config.json", trainer.train().tokenizer_config_json);
    return made;
  }();
  return folder;
}

TrainRecipe recipe(const fs::path& out) {
  TrainRecipe r = tiny_recipe();
  r.model.erase("vocab_size");
  r.data.train = {(prepared() / "text.jsonl").string()};
  r.data.tokenizer = (prepared() / "tokenizer.json").string();
  r.data.valid_share = 0.2;
  r.run.out = out.string();
  r.run.steps = 8;
  r.run.checkpoint_every = 2;
  r.run.eval_every = 0;
  return r;
}

std::string train_whole(const TrainRecipe& r) {
  EXPECT_TRUE(TrainRun(r).train([](const Progress&) { return true; }));
  return read_file(fs::path(r.run.out) / "model" / "model.safetensors");
}

// The weights of the run that nothing happens to.
const std::string& undisturbed_run() {
  static const std::string weights = train_whole(recipe(scratch_dir()));
  return weights;
}

std::string resumed(const TrainRecipe& r, std::vector<std::string>& passed_over) {
  TrainRun run(r);
  run.resume(passed_over);
  EXPECT_TRUE(run.train([](const Progress&) { return true; }));
  return read_file(fs::path(r.run.out) / "model" / "model.safetensors");
}

std::vector<Json> log_of(const fs::path& run) {
  std::vector<Json> lines;
  std::istringstream text(read_file(run / "metrics.jsonl"));
  for (std::string line; std::getline(text, line);) {
    const Json entry = Json::parse(line);
    if (entry["step"] > 0) lines.push_back(entry);  // that of step 0 is the evaluation before
  }
  return lines;
}

TEST_F(TrainRuns, StopsAndGoesOnToTheSameBits) {
  const TrainRecipe r = recipe(scratch_dir());
  std::vector<std::string> passed_over;
  for (const int64_t stop : {3, 4, 7}) {
    const ScopedThreads scope(stop % 3 + 1);
    TrainRun run(r);
    run.resume(passed_over);
    EXPECT_FALSE(run.train([&](const Progress& p) { return p.step < stop; }));
    EXPECT_EQ(checkpoint_steps(r.run.out).front(), stop);
    EXPECT_FALSE(fs::exists(run.model_folder()));
  }
  EXPECT_TRUE(resumed(r, passed_over) == undisturbed_run());
  EXPECT_TRUE(passed_over.empty());
  const std::vector<Json> log = log_of(r.run.out);
  ASSERT_EQ(log.size(), 8u);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(log[i]["step"], i + 1);
  EXPECT_TRUE(resumed(r, passed_over) == undisturbed_run()) << "at its end already";
}

TEST_F(TrainRuns, ADamagedCheckpointIsSetAside) {
  const TrainRecipe r = recipe(scratch_dir());
  train_whole(r);
  const fs::path checkpoints = fs::path(r.run.out) / "checkpoints";
  write_file_atomically(checkpoints / "step-8" / "state.json", "{}\n");
  std::vector<std::string> passed_over;
  EXPECT_TRUE(resumed(r, passed_over) == undisturbed_run());
  ASSERT_EQ(passed_over.size(), 1u);
  EXPECT_NE(passed_over[0].find("step-8 is passed over"), std::string::npos) << passed_over[0];
  EXPECT_TRUE(fs::exists(checkpoints / "step-8.damaged"));
  EXPECT_EQ(checkpoint_steps(r.run.out), (std::vector<int64_t>{8, 6}));
}

TEST_F(TrainRuns, OneProcessAtATime) {
  const TrainRecipe r = recipe(scratch_dir());
  {
    const TrainRun run(r);
    EXPECT_ERROR(TrainRun(r), kIo, str("is in use by process ", ::getpid()));
  }
  EXPECT_TRUE(train_whole(r) == undisturbed_run());
  EXPECT_ERROR(TrainRun(r).check_fresh(), kUsage, "holds a run already");
}

TEST_F(TrainRuns, AFolderThatCannotBeWrittenIsSeenBeforeTheFirstStep) {
  const TrainRecipe r = recipe(scratch_dir() / "run");
  {
    FailingDisk read_only(0, EROFS, true);
    const ScopedDisk scope(read_only);
    EXPECT_ERROR(TrainRun(r), kIo, "run: Read-only file system");
  }
  TrainRun run(r);
  make_folder(fs::path(r.run.out) / "checkpoints");
  FailingDisk read_only(0, EROFS, true);
  const ScopedDisk scope(read_only);
  const auto step = [](const Progress&) -> bool { throw std::runtime_error("a step was done"); };
  EXPECT_ERROR(run.train(step), kIo, "Read-only file system");
}

class SmallDisk : public QuickDisk {
 public:
  explicit SmallDisk(int64_t free) : free_(free) {}
  int64_t free_bytes(const Path& /*path*/) override { return free_; }

 private:
  int64_t free_;
};

// Three sets of 2 + 1 + 1 are written before one is removed; what is there already has its room.
TEST_F(TrainRuns, ADiskWithoutRoomIsSeenBeforeTheFirstStep) {
  const TrainRecipe r = recipe(scratch_dir());
  const auto step = [](const Progress&) -> bool { throw std::runtime_error("a step was done"); };
  auto run = std::make_unique<TrainRun>(r);
  const int64_t each = checkpoint_bytes(run->trainer(), r.data.tokenizer);
  {
    SmallDisk full(4 * each);
    const ScopedDisk scope(full);
    EXPECT_ERROR(run->train(step), kResource,
                 str("has ", 4 * each, " bytes free, expected at least"));
    EXPECT_ERROR(run->train(step), kResource, str("4 checkpoints of ", each, " bytes"));
  }
  SmallDisk enough(5 * each);
  const ScopedDisk scope(enough);
  EXPECT_TRUE(run->train([](const Progress&) { return true; }));
  run.reset();
  SmallDisk less(2 * each);
  const ScopedDisk again(less);
  TrainRun more(r);
  std::vector<std::string> passed_over;
  more.resume(passed_over);
  EXPECT_TRUE(more.train(step)) << "one more at most, and the model";
}

TEST_F(TrainRuns, EndsAfterBadStepsInARowAndKeepsWhatWasGood) {
  TrainRecipe r = recipe(scratch_dir());
  r.run.max_bad_steps = 3;
  {
    TrainRun run(r);
    float* weight = run.trainer().model().params().find("lm_head.weight")->vec_mut().data();
    const auto poison = [&](const Progress& p) {
      if (p.step == 3) *weight = std::numeric_limits<float>::infinity();
      return true;
    };
    EXPECT_ERROR(run.train(poison), kNumbers,
                 "3 steps in a row had a loss or gradient that was not finite, the last at rows 40 "
                 "to 47 of the data; the newest checkpoint is of step 2");
  }
  const std::vector<Json> log = log_of(r.run.out);
  ASSERT_EQ(log.size(), 6u);
  EXPECT_EQ(log[2]["applied"], true);
  EXPECT_FALSE(log[2].contains("data_rows"));
  EXPECT_EQ(log[3]["applied"], false);
  EXPECT_EQ(log[3]["data_rows"], (Json{24, 31}));
  EXPECT_EQ(checkpoint_steps(r.run.out), std::vector<int64_t>{2});
  std::vector<std::string> passed_over;
  EXPECT_TRUE(resumed(r, passed_over) == undisturbed_run());
}

// One bad step among good ones is counted, and that is all.
TEST_F(TrainRuns, GoesOnAfterABadStep) {
  TrainRecipe r = recipe(scratch_dir());
  r.run.max_bad_steps = 2;
  TrainRun run(r);
  float* weight = run.trainer().model().params().find("lm_head.weight")->vec_mut().data();
  float good = 0;
  int64_t bad = 0;
  EXPECT_TRUE(run.train([&](const Progress& p) {
    if (p.step % 3 == 1) {
      good = *weight;
      *weight = std::numeric_limits<float>::quiet_NaN();
    } else if (p.step % 3 == 2) {
      *weight = good;
    }
    bad = p.not_applied;
    return true;
  }));
  EXPECT_EQ(bad, 3);
}

}  // namespace
}  // namespace hadal
