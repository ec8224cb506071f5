#include "io/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <numeric>

#include "core/json.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

std::vector<std::byte> counting(int64_t n, int start = 0) {
  std::vector<std::byte> bytes(static_cast<size_t>(n));
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(start + int(i));
  return bytes;
}

std::vector<std::byte> copy(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

// The file in three parts, read by other means than the reader's.
struct Raw {
  uint64_t length = 0;
  std::string header;
  std::string data;
  explicit Raw(const fs::path& path) {
    const std::string all = read_file(path);
    std::memcpy(&length, all.data(), 8);
    header = all.substr(8, length);
    data = all.substr(8 + length);
  }
};

TEST(Safetensors, what_is_written_is_read) {
  const fs::path path = scratch_dir() / "a.safetensors";
  SafetensorsWriter writer(path, {{"w", DType::kBF16, {2, 3}}, {"one", DType::kF32, {}}});
  writer.write("one", counting(4, 100));
  writer.write("w", counting(5));  // in pieces
  writer.write("w", counting(7, 5));
  writer.finish();

  const SafetensorsFile file(path);
  ASSERT_EQ(file.tensors().size(), 2u);
  const TensorInfo* w = file.find("w");
  ASSERT_NE(w, nullptr);
  EXPECT_EQ(w->dtype, DType::kBF16);
  EXPECT_EQ(w->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(w->size(), 6);
  EXPECT_EQ(w->bytes(), 12);
  EXPECT_EQ(copy(file.view(*w)), counting(12));
  EXPECT_EQ(copy(file.view(*file.find("one"))), counting(4, 100));
  EXPECT_TRUE(file.find("one")->shape.empty());
  EXPECT_EQ(file.find("one")->size(), 1);
  EXPECT_EQ(file.find("x"), nullptr);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_EQ(file.where(*w), path.string() + ": tensor \"w\"");

  std::vector<std::byte> part(3);
  file.read(*w, 4, part);
  EXPECT_EQ(part, counting(3, 4));
  EXPECT_ERROR(file.read(*w, 10, part), kInternal, "asked for 3 bytes from 10 of 12");
  EXPECT_ERROR(file.read(*w, -1, part), kInternal, "from -1 of 12");
}

TEST(SafetensorsWriter, the_file_is_what_the_format_says) {
  const fs::path path = scratch_dir() / "a.safetensors";
  SafetensorsWriter writer(path,
                           {{"b", DType::kBF16, {3}},
                            {"f", DType::kF32, {1}},
                            {"c", DType::kU8, {1}},
                            {"i", DType::kI64, {1}}},
                           {{"format", "pt"}, {"note", "\"quoted\""}});
  writer.write("b", counting(6, 10));
  writer.write("f", counting(4, 20));
  writer.write("c", counting(1, 30));
  writer.write("i", counting(8, 40));
  writer.finish();

  const Raw raw(path);
  EXPECT_EQ(raw.length % 8, 0u);
  EXPECT_EQ(raw.header.find_last_not_of(' '), raw.header.rfind('}')) << "padded with spaces";
  const Json json = Json::parse(raw.header);
  EXPECT_EQ(json["__metadata__"], (Json{{"format", "pt"}, {"note", "\"quoted\""}}));
  // Larger numbers first: all aligned.
  EXPECT_EQ(json["i"], (Json{{"dtype", "I64"}, {"shape", {1}}, {"data_offsets", {0, 8}}}));
  EXPECT_EQ(json["f"], (Json{{"dtype", "F32"}, {"shape", {1}}, {"data_offsets", {8, 12}}}));
  EXPECT_EQ(json["b"], (Json{{"dtype", "BF16"}, {"shape", {3}}, {"data_offsets", {12, 18}}}));
  EXPECT_EQ(json["c"], (Json{{"dtype", "U8"}, {"shape", {1}}, {"data_offsets", {18, 19}}}));
  EXPECT_EQ(raw.data.size(), 19u);
  EXPECT_EQ(raw.data[0], 40);
  EXPECT_EQ(raw.data[8], 20);
  EXPECT_EQ(raw.data[12], 10);
  EXPECT_EQ(raw.data[18], 30);
}

TEST(SafetensorsWriter, nothing_appears_before_finish) {
  const fs::path folder = scratch_dir(), path = folder / "a.safetensors";
  {
    SafetensorsWriter writer(path, {{"w", DType::kF32, {2}}});
    writer.write("w", counting(4));
    EXPECT_FALSE(fs::exists(path));
    EXPECT_ERROR(writer.finish(), kInternal, "tensor \"w\" lacks its last 4 bytes");
    EXPECT_FALSE(fs::exists(path));
  }
  EXPECT_TRUE(list_folder(folder).empty());
}

TEST(SafetensorsWriter, refuses_what_no_reader_would_take) {
  const fs::path path = scratch_dir() / "a.safetensors";
  const auto make = [&](std::vector<TensorSpec> tensors) { SafetensorsWriter(path, tensors); };
  EXPECT_ERROR(make({{"w", DType::kF32, {0}}}), kInternal, "shape holds 0");
  EXPECT_ERROR(make({{"w", DType::kF32, {2}}, {"w", DType::kF32, {2}}}), kInternal,
               "key \"w\" stands twice");
  EXPECT_ERROR(make({{"__metadata__", DType::kF32, {2}}}), kInternal, "stands twice");
  EXPECT_ERROR(make({{"w\xff", DType::kF32, {2}}}), kInternal, "is not UTF-8");
  EXPECT_ERROR(make({{"w", DType::kF32, {-2}}}), kResource, "dimension -2");
  SafetensorsWriter writer(path, {{"w", DType::kF32, {2}}});
  EXPECT_ERROR(writer.write("v", counting(4)), kInternal, "tensor \"v\" was not declared");
  EXPECT_ERROR(writer.write("w", counting(9)), kInternal, "9 bytes more, expected at most 8");
}

TEST(Safetensors, names_of_all_kinds_survive) {
  const fs::path path = scratch_dir() / "a.safetensors";
  const std::vector<std::string> names{"", "a b", "\"\\\n", "\xe6\xb7\xb1", std::string("\0x", 2)};
  std::vector<TensorSpec> specs;
  for (const std::string& name : names) specs.push_back({name, DType::kU8, {1}});
  SafetensorsWriter writer(path, specs);
  for (size_t i = 0; i < names.size(); ++i) writer.write(names[i], counting(1, int(i)));
  writer.finish();
  const SafetensorsFile file(path);
  for (size_t i = 0; i < names.size(); ++i) {
    ASSERT_NE(file.find(names[i]), nullptr);
    EXPECT_EQ(copy(file.view(*file.find(names[i]))), counting(1, int(i)));
  }
}

TEST(Safetensors, many_tensors_take_time_in_proportion) {
  const fs::path path = scratch_dir() / "a.safetensors";
  std::vector<TensorSpec> specs;
  for (int i = 0; i < 40'000; ++i) {
    specs.push_back({"model.layers.0.mlp.experts." + std::to_string(i) + ".w", DType::kU8, {1}});
  }
  const auto start = std::chrono::steady_clock::now();
  SafetensorsWriter writer(path, specs);
  for (const TensorSpec& t : specs) writer.write(t.name, counting(1));
  writer.finish();
  EXPECT_EQ(SafetensorsFile(path).tensors().size(), specs.size());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(SafetensorsFile, special_files_are_refused) {
  const fs::path folder = scratch_dir();
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  fs::create_symlink("/etc/passwd", folder / "link");
  EXPECT_ERROR(SafetensorsFile(folder / "fifo"), kIo, "is a FIFO");
  EXPECT_ERROR(SafetensorsFile(folder / "link"), kIo, "is a symbolic link");
  EXPECT_ERROR(SafetensorsFile{folder}, kIo, "is a directory");
  EXPECT_ERROR(SafetensorsFile("/dev/zero"), kIo, "is a device");
}

TEST(SafetensorsFile, a_file_cut_short_while_open_is_an_error_not_a_crash) {
  const fs::path path = scratch_dir() / "a.safetensors";
  SafetensorsWriter writer(path, {{"w", DType::kU8, {1 << 20}}});
  writer.write("w", counting(1 << 20, 1));
  writer.finish();
  const SafetensorsFile file(path);
  const TensorInfo& w = file.tensors().front();
  EXPECT_NO_THROW(file.check_intact());
  fs::resize_file(path, 5000);
  std::vector<std::byte> out(static_cast<size_t>(w.bytes()));
  EXPECT_ERROR(file.read(w, 0, out), kIo, "ends at byte 5000");
  int64_t sum = 0;
  for (std::byte b : file.view(w)) sum += std::to_integer<int>(b);
  EXPECT_GT(sum, 0);
  EXPECT_ERROR(file.check_intact(), kIo, "was cut short to 5000 bytes");
}

TEST(ParseHeader, gives_tensors_in_the_order_of_their_bytes) {
  const std::string json = R"({"a":{"dtype":"F16","shape":[2,2],"data_offsets":[1,9]},)"
                           R"("b":{"dtype":"BOOL","shape":[],"data_offsets":[0,1]}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(json.size());
  file += json + std::string(9, 'x');
  const SafetensorsHeader header =
      parse_header(std::as_bytes(std::span(file.data(), file.size())), "f");
  ASSERT_EQ(header.tensors.size(), 2u);
  EXPECT_EQ(header.tensors[0].name, "b");
  EXPECT_EQ(header.tensors[1].name, "a");
  EXPECT_EQ(header.tensors[1].begin, 1);
  EXPECT_EQ(header.tensors[1].end, 9);
  EXPECT_EQ(header.tensors[1].dtype, DType::kF16);
  EXPECT_EQ(header.data_begin, 8 + int64_t(json.size()));
  EXPECT_TRUE(header.metadata.empty());
}

TEST(ParseHeader, shapes_up_to_8_dimensions_are_read) {
  const std::string json = R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,2],"data_offsets":[0,2]}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(json.size());
  file += json + "xx";
  EXPECT_EQ(parse_header(std::as_bytes(std::span(file.data(), file.size())), "f")
                .tensors.front()
                .shape.size(),
            8u);
}

}  // namespace
}  // namespace hadal
