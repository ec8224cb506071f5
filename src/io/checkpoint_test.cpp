#include "io/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "core/json.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

std::vector<std::byte> bytes_of(int64_t n, int value) {
  return std::vector<std::byte>(static_cast<size_t>(n), static_cast<std::byte>(value));
}

void write_file(const fs::path& path, const std::vector<TensorSpec>& tensors) {
  SafetensorsWriter writer(path, tensors);
  int value = 1;
  for (const TensorSpec& t : tensors) writer.write(t.name, bytes_of(t.bytes(), value++));
  writer.finish();
}

// Two shards of 8 and 12 bytes: a, b in the first, c in the second.
struct TwoShards {
  fs::path folder = scratch_dir();
  Json index{{"metadata", {{"total_size", 20}}},
             {"weight_map", {{"a", kFirst}, {"b", kFirst}, {"c", kSecond}}}};

  TwoShards() {
    write_file(folder / kFirst, {{"a", DType::kF32, {1}}, {"b", DType::kBF16, {2}}});
    write_file(folder / kSecond, {{"c", DType::kF32, {3}}});
  }
  Checkpoint open() const {
    write_file_atomically(folder / kCheckpointIndexFile, index.dump());
    return Checkpoint::open(folder);
  }
};

CheckpointWriter write_model(const fs::path& folder, int64_t max_shard_bytes, int value) {
  const std::vector<TensorSpec> specs{
      {"w", DType::kF32, {2, 2}}, {"v", DType::kF32, {2}}, {"u", DType::kBF16, {4}}};
  CheckpointWriter writer(folder, specs, max_shard_bytes);
  for (const TensorSpec& t : specs) writer.write(t.name, bytes_of(t.bytes(), value++));
  return writer;
}

std::vector<std::string> files_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::path& path : list_folder(folder)) names.push_back(path.filename().string());
  return names;
}

TEST(Checkpoint, finds_tensors_in_one_file) {
  const fs::path folder = scratch_dir();
  write_file(folder / "model.safetensors", {{"b", DType::kF32, {2}}, {"a", DType::kBF16, {3}}});
  const Checkpoint checkpoint = Checkpoint::open(folder);
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(checkpoint.contains("a"));
  EXPECT_FALSE(checkpoint.contains("c"));
  EXPECT_EQ(checkpoint.find("c"), nullptr);
  EXPECT_EQ(checkpoint.at("a").shape, std::vector<int64_t>{3});
  EXPECT_EQ(checkpoint.total_bytes(), 14);
  EXPECT_EQ(checkpoint.view("a")[0], std::byte{2});
  EXPECT_EQ(checkpoint.where("a"), (folder / "model.safetensors").string() + ": tensor \"a\"");
  EXPECT_ERROR(checkpoint.at("c"), kFormat, folder.string() + ": tensor \"c\" is missing");
  EXPECT_ERROR(checkpoint.view("c"), kFormat, "tensor \"c\" is missing");
  EXPECT_NO_THROW(checkpoint.check_intact());
}

TEST(Checkpoint, finds_tensors_in_shards) {
  const TwoShards model;
  const Checkpoint checkpoint = model.open();
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(checkpoint.view("b")[0], std::byte{2});
  EXPECT_EQ(checkpoint.where("c"), (model.folder / kSecond).string() + ": tensor \"c\"");
  EXPECT_EQ(checkpoint.total_bytes(), 20);
  std::vector<std::byte> out(4);
  checkpoint.read("c", 8, out);
  EXPECT_EQ(out, bytes_of(4, 1));
  fs::resize_file(model.folder / kSecond, 20);
  EXPECT_ERROR(checkpoint.check_intact(), kIo, kSecond);
}

TEST(Checkpoint, total_size_is_the_bytes_or_twice_the_numbers_or_left_out) {
  TwoShards model;  // 20 bytes, 6 numbers
  EXPECT_NO_THROW(model.open());
  model.index["metadata"]["total_size"] = 12;  // as in the files of DeepSeek-V3
  EXPECT_NO_THROW(model.open());
  model.index["metadata"] = Json::object();
  EXPECT_NO_THROW(model.open());
  model.index.erase("metadata");
  EXPECT_NO_THROW(model.open());
  for (int64_t lie : {0, 6, 19, 21, 24, 1 << 30}) {
    model.index["metadata"]["total_size"] = lie;
    EXPECT_ERROR(
        model.open(), kFormat,
        str(kCheckpointIndexFile, ": total_size is ", lie, ", but the tensors have 20 bytes"));
  }
}

TEST(Checkpoint, an_index_that_does_not_fit_its_shards_is_refused) {
  const TwoShards good;
  TwoShards model;
  model.index["weight_map"]["d"] = kSecond;
  EXPECT_ERROR(model.open(), kFormat,
               str("tensor \"d\" is not in shard \"", kSecond, "\", where weight_map says it is"));
  model.index = good.index;
  model.index["weight_map"].erase("b");
  EXPECT_ERROR(model.open(), kFormat,
               str(kFirst, ": tensor \"b\" is not in ", kCheckpointIndexFile));
  model.index = good.index;
  model.index["weight_map"]["b"] = kSecond;
  EXPECT_ERROR(model.open(), kFormat,
               str(kFirst, ": tensor \"b\", but ", kCheckpointIndexFile, " says that it is in \"",
                   kSecond, "\""));
  model.index = good.index;
  model.index["weight_map"]["d"] = "model-00003-of-00002.safetensors";
  EXPECT_ERROR(
      model.open(), kIo,
      "shard \"model-00003-of-00002.safetensors\" is missing; it should hold tensor \"d\"");
}

TEST(Checkpoint, a_tensor_in_two_shards_is_refused) {
  const TwoShards model;
  write_file(model.folder / kSecond, {{"b", DType::kBF16, {2}}, {"c", DType::kF32, {3}}});
  EXPECT_ERROR(model.open(), kFormat,
               str(kSecond, ": tensor \"b\", but ", kCheckpointIndexFile, " says that it is in \"",
                   kFirst, "\""));
}

TEST(Checkpoint, a_broken_or_special_shard_is_refused_by_name) {
  const TwoShards model;
  const fs::path shard = model.folder / kSecond;
  write_file_atomically(shard, "short");
  EXPECT_ERROR(model.open(), kFormat, str(kSecond, " has 5 bytes"));
  fs::remove(shard);
  ASSERT_EQ(::mkfifo(shard.c_str(), 0600), 0);
  EXPECT_ERROR(model.open(), kIo, str(kSecond, " is a FIFO"));
  fs::remove(shard);
  fs::create_directory(shard);
  EXPECT_ERROR(model.open(), kIo, str(kSecond, " is a directory"));
  fs::remove(shard);
  fs::create_symlink(kFirst, shard);
  EXPECT_ERROR(model.open(), kIo, str(kSecond, " is a symbolic link"));
  fs::remove(shard);
  fs::create_symlink("/dev/zero", shard);
  EXPECT_ERROR(model.open(), kIo, str(kSecond, " is a symbolic link"));
  fs::remove(model.folder / kCheckpointIndexFile);
  fs::create_symlink("/etc/passwd", model.folder / kCheckpointIndexFile);
  EXPECT_ERROR(Checkpoint::open(model.folder), kIo,
               str(kCheckpointIndexFile, " is a symbolic link"));
}

TEST(Checkpoint, pickle_files_are_refused_with_advice) {
  for (const char* name : {"pytorch_model.bin", "model.pt", "x.pth", "x.ckpt", "x.pkl"}) {
    const fs::path folder = scratch_dir();
    write_file_atomically(folder / name, "\x80\x02");
    EXPECT_ERROR(Checkpoint::open(folder), kIo, str(name, " is a pickle file"));
    EXPECT_ERROR(Checkpoint::open(folder), kIo, "save_pretrained(NEW_FOLDER)");
    EXPECT_ERROR(Checkpoint::open(folder / name), kIo, "is a pickle file");
  }
  // Beside safetensors they are not read, and not in the way.
  const fs::path folder = scratch_dir();
  write_file_atomically(folder / "pytorch_model.bin", "\x80\x02");
  write_file(folder / "model.safetensors", {{"a", DType::kF32, {1}}});
  EXPECT_EQ(Checkpoint::open(folder).names().size(), 1u);
}

TEST(Checkpoint, folders_without_weights_say_what_is_missing) {
  const fs::path folder = scratch_dir();
  EXPECT_ERROR(Checkpoint::open(folder), kIo, "holds neither model.safetensors nor");
  EXPECT_ERROR(Checkpoint::open(folder / "none"), kIo, "none: no such folder");
  write_file(folder / kFirst, {{"a", DType::kF32, {1}}});
  EXPECT_ERROR(Checkpoint::open(folder), kIo, str("holds \"", kFirst, "\" but neither"));
  EXPECT_ERROR(Checkpoint::open(folder / kFirst), kIo, "is not a folder; expected a folder");
}

TEST(Checkpoint, a_single_file_goes_before_an_index) {
  const TwoShards model;
  write_file(model.folder / "model.safetensors", {{"z", DType::kF32, {1}}});
  EXPECT_EQ(model.open().names(), std::vector<std::string>{"z"});
}

TEST(CheckpointWriter, small_models_are_one_file) {
  const fs::path folder = scratch_dir() / "new" / "model";
  CheckpointWriter writer = write_model(folder, 32, 5);
  EXPECT_EQ(writer.at("v").shape, std::vector<int64_t>{2});
  EXPECT_FALSE(fs::exists(folder / "model.safetensors"));
  writer.finish();
  EXPECT_EQ(files_in(folder), std::vector<std::string>{"model.safetensors"});
  const Checkpoint checkpoint = Checkpoint::open(folder);
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"u", "v", "w"}));
  EXPECT_EQ(checkpoint.view("v")[7], std::byte{6});
}

TEST(CheckpointWriter, larger_ones_are_shards_with_an_index) {
  const fs::path folder = scratch_dir();
  write_model(folder, 24, 5).finish();  // w 16 and v 8 bytes fill a shard to the brim
  EXPECT_EQ(files_in(folder), (std::vector<std::string>{kFirst, kSecond, kCheckpointIndexFile}));
  const Json index = Json::parse(read_file(folder / kCheckpointIndexFile));
  EXPECT_EQ(index["metadata"], (Json{{"total_size", 32}}));
  EXPECT_EQ(index["weight_map"], (Json{{"w", kFirst}, {"v", kFirst}, {"u", kSecond}}));
  const Checkpoint checkpoint = Checkpoint::open(folder);
  EXPECT_EQ(checkpoint.view("w")[15], std::byte{5});
  EXPECT_EQ(checkpoint.view("u")[0], std::byte{7});

  write_model(folder, 1, 1).finish();  // a shard for each tensor
  EXPECT_EQ(Checkpoint::open(folder).where("w").find("model-00001-of-00003"),
            folder.string().size() + 1);
}

TEST(CheckpointWriter, a_new_model_takes_the_place_of_the_old_whatever_its_shards) {
  const fs::path folder = scratch_dir();
  write_file_atomically(folder / "config.json", "{}");
  int value = 10;
  for (int64_t shard_bytes : {100, 1, 24, 1, 100, 24, 100}) {
    value += 10;
    write_model(folder, shard_bytes, value).finish();
    const Checkpoint checkpoint = Checkpoint::open(folder);
    EXPECT_EQ(checkpoint.view("w")[0], static_cast<std::byte>(value));
    EXPECT_EQ(checkpoint.view("u")[0], static_cast<std::byte>(value + 2));
    const size_t weights = shard_bytes == 100 ? 1 : shard_bytes == 24 ? 3 : 4;
    EXPECT_EQ(files_in(folder).size(), 1 + weights) << "nothing of the old one stays";
  }
  EXPECT_TRUE(fs::exists(folder / "config.json"));
}

TEST(CheckpointWriter, without_finish_the_old_model_stays) {
  const fs::path folder = scratch_dir();
  write_model(folder, 24, 1).finish();
  const std::vector<std::string> before = files_in(folder);
  { const CheckpointWriter abandoned = write_model(folder, 1, 9); }
  EXPECT_EQ(files_in(folder), before);
  EXPECT_EQ(Checkpoint::open(folder).view("w")[0], std::byte{1});

  CheckpointWriter incomplete(folder, {{"w", DType::kF32, {1}}, {"v", DType::kF32, {1}}}, 4);
  incomplete.write("w", bytes_of(4, 9));
  EXPECT_ERROR(incomplete.finish(), kInternal, "tensor \"v\" lacks its last 4 bytes");
  EXPECT_EQ(Checkpoint::open(folder).view("w")[0], std::byte{1}) << "no shard was replaced";
}

// The second of two shards cannot be put in place: whatever was done by then must not look like a
// model made of both.
TEST(CheckpointWriter, an_interrupted_finish_leaves_no_mixture) {
  const fs::path folder = scratch_dir(), second = folder / kSecond;
  write_model(folder, 24, 1).finish();
  const std::string old_second = read_file(second);
  CheckpointWriter writer = write_model(folder, 24, 50);
  fs::remove(second);
  fs::create_directory(second);
  EXPECT_ERROR(writer.finish(), kIo, "cannot rename to");
  fs::remove(second);
  write_file_atomically(second, old_second);
  EXPECT_ERROR(Checkpoint::open(folder), kIo,
               str("but neither model.safetensors nor ", kCheckpointIndexFile));

  // Over a single file the old model stays until the index of the new one stands.
  const fs::path other = scratch_dir();
  write_model(other, 100, 1).finish();
  CheckpointWriter over = write_model(other, 24, 50);
  fs::create_directory(other / kSecond);
  EXPECT_ERROR(over.finish(), kIo, "cannot rename to");
  EXPECT_EQ(Checkpoint::open(other).view("w")[0], std::byte{1});
}

TEST(CheckpointWriter, refuses_wrong_use) {
  const fs::path folder = scratch_dir();
  EXPECT_ERROR(CheckpointWriter(folder, {{"w", DType::kF32, {1}}, {"w", DType::kF32, {2}}}),
               kInternal, "tensor \"w\" was declared twice");
  EXPECT_ERROR(CheckpointWriter(folder, {{"w", DType::kF32, {1}}}, 0), kUsage, "shards of 0 bytes");
  CheckpointWriter writer(folder, {{"w", DType::kF32, {1}}});
  EXPECT_ERROR(writer.write("v", bytes_of(4, 0)), kInternal, "tensor \"v\" was not declared");
  EXPECT_ERROR(writer.at("v"), kInternal, "tensor \"v\" was not declared");
}

}  // namespace
}  // namespace hadal
