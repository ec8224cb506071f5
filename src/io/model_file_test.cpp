#include "io/model_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/support/testing.h"

namespace hadal {
namespace {

const std::string kHash(64, 'a');

// A hub cache with one model: REVISION/model.safetensors -> ../../blobs/HASH.
struct HubCache {
  fs::path root = scratch_dir();
  fs::path entry = root / "models--org--name";
  fs::path snapshot = entry / "snapshots" / "0123abcd";
  fs::path file = snapshot / "model.safetensors";

  HubCache() {
    fs::create_directories(entry / "blobs");
    fs::create_directories(snapshot);
    write_file_atomically(entry / "blobs" / kHash, "the blob");
    fs::create_symlink("../../blobs/" + kHash, file);
  }
  void relink(const fs::path& target) const {
    fs::remove(file);
    fs::create_symlink(target, file);
  }
};

TEST(ModelFile, opens_regular_files_and_refuses_all_else) {
  const fs::path folder = scratch_dir();
  write_file_atomically(folder / "f", "text");
  EXPECT_EQ(read_model_file(folder / "f", 4), "text");
  EXPECT_ERROR(read_model_file(folder / "f", 3), kIo, "has 4 bytes, expected at most 3");
  EXPECT_ERROR(open_model_file(folder), kIo, "is a directory");
  EXPECT_ERROR(open_model_file("/dev/zero"), kIo, "is a device");
  EXPECT_ERROR(open_model_file(folder / "none"), kIo, "No such file");
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_ERROR(open_model_file(folder / "fifo"), kIo, "is a FIFO");
  for (const char* target : {"f", "/etc/passwd", "none", "."}) {
    fs::remove(folder / "link");
    fs::create_symlink(target, folder / "link");
    EXPECT_ERROR(open_model_file(folder / "link"), kIo, "is a symbolic link");
  }
}

TEST(ModelFile, follows_the_links_of_the_hub_cache) {
  const HubCache cache;
  EXPECT_EQ(read_model_file(cache.file, 100), "the blob");
  EXPECT_EQ(open_model_file(cache.file).path(), cache.file) << "the name that the user knows";

  // The user's own link to the snapshot, and a path relative to it.
  fs::create_directory_symlink(cache.snapshot, cache.root / "mine");
  EXPECT_EQ(read_model_file(cache.root / "mine" / "model.safetensors", 100), "the blob");
  const fs::path before = fs::current_path();
  fs::current_path(cache.snapshot);
  EXPECT_EQ(read_model_file("model.safetensors", 100), "the blob");
  fs::current_path(before);

  write_file_atomically(cache.entry / "blobs" / std::string(40, '0'), "short hash");
  cache.relink("../../blobs/" + std::string(40, '0'));
  EXPECT_EQ(read_model_file(cache.file, 100), "short hash");
}

TEST(ModelFile, refuses_links_that_only_look_like_the_hub_cache) {
  const HubCache cache;
  write_file_atomically(cache.root / "secret", "secret");
  write_file_atomically(cache.entry / "blobs" / "short", "x");
  for (const fs::path& target :
       {fs::path("../../blobs/short"), fs::path("../../blobs/../../secret"),
        fs::path("../../blobs/../blobs/" + kHash), fs::path("../../../secret"),
        cache.entry / "blobs" / kHash, fs::path("../blobs/" + kHash),
        fs::path("../../blobs/" + std::string(64, 'A')), fs::path("../../blobs/")}) {
    cache.relink(target);
    EXPECT_ERROR(open_model_file(cache.file), kIo, "is a symbolic link");
  }
}

TEST(ModelFile, refuses_a_blob_that_is_itself_a_link_or_no_file) {
  const HubCache cache;
  const fs::path blob = cache.entry / "blobs" / kHash;
  fs::remove(blob);
  fs::create_symlink("/etc/passwd", blob);
  EXPECT_ERROR(open_model_file(cache.file), kIo, "model.safetensors is a symbolic link");
  fs::remove(blob);
  fs::create_directory(blob);
  EXPECT_ERROR(open_model_file(cache.file), kIo, "is a directory");
  fs::remove(blob);
  EXPECT_ERROR(open_model_file(cache.file), kIo, "model.safetensors: No such file");
}

TEST(ModelFile, refuses_the_same_links_outside_a_hub_cache) {
  for (const char* folder : {"models--org--name/other/rev", "datasets--org--name/snapshots/rev",
                             "name/snapshots/rev", "models--org--name/snapshots/rev/sub"}) {
    const fs::path root = scratch_dir(), where = root / folder;
    fs::create_directories(where);
    fs::create_directories(where / "../../blobs");
    write_file_atomically(where / "../../blobs" / kHash, "x");
    fs::create_symlink("../../blobs/" + kHash, where / "f");
    EXPECT_ERROR(open_model_file(where / "f"), kIo, "is a symbolic link");
  }
}

TEST(QuoteName, is_harmless_and_short) {
  EXPECT_EQ(quote_name("model.norm.weight"), "\"model.norm.weight\"");
  EXPECT_EQ(quote_name("a\n\"\\\x1b[1m"), "\"a\\x0a\\x22\\x5c\\x1b[1m\"");
  EXPECT_EQ(quote_name(std::string_view("\0\x7f", 2)), "\"\\x00\\x7f\"");
  EXPECT_EQ(quote_name(std::string(120, 'x')), '"' + std::string(120, 'x') + '"');
  EXPECT_EQ(quote_name(std::string(121, 'x')), '"' + std::string(120, 'x') + "...\"");
  std::string wide(119, 'x');
  wide += "\xe6\xb7\xb1";  // one character over the edge goes whole
  EXPECT_EQ(quote_name(wide), '"' + std::string(119, 'x') + "...\"");
}

}  // namespace
}  // namespace hadal
