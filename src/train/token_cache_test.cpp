#include "train/token_cache.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ringbuffer_sink.h>
#include <spdlog/spdlog.h>
#include <zstd.h>

#include "core/json.h"
#include "core/parallel.h"
#include "tests/support/testing.h"
#include "text/bpe_trainer.h"

namespace hadal {
namespace {

// What the library warned of while it lives.
class Warnings {
 public:
  Warnings() : sink_(std::make_shared<spdlog::sinks::ringbuffer_sink_mt>(16)) {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink_));
  }
  ~Warnings() { spdlog::set_default_logger(previous_); }
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;
  std::string text() const {
    std::string all;
    for (const std::string& line : sink_->last_formatted()) all += line;
    return all;
  }

 private:
  std::shared_ptr<spdlog::logger> previous_ = spdlog::default_logger();
  std::shared_ptr<spdlog::sinks::ringbuffer_sink_mt> sink_;
};

class TokenCache : public testing::Test {
 protected:
  fs::path folder_ = scratch_dir(), cache_ = folder_ / "cache";
  std::vector<std::string> documents_;
  std::vector<fs::path> files_;
  Tokenizer tokenizer_ = make_tokenizer(300);

  void SetUp() override {
    std::string lines;
    for (int i = 0; i < 50; ++i) {
      documents_.push_back(str("Document ", i, ": ", std::string(static_cast<size_t>(7 * i), 'x'),
                               " and some words, é, <｜end▁of▁sentence｜>."));
      lines += Json{{"text", documents_.back()}}.dump() + "\n";
    }
    documents_.emplace_back("the second file");
    files_ = {folder_ / "a.jsonl", folder_ / "b.txt"};
    write_file_atomically(files_[0], lines);
    write_file_atomically(files_[1], documents_.back());
  }

  Tokenizer make_tokenizer(int64_t ids) {
    BpeTrainOptions options;
    options.vocab_size = ids;
    BpeTrainer trainer(options);
    trainer.add("Document 1: some words and some more words to merge, sentence after sentence");
    const TokenizerJson made = trainer.train();
    write_file_atomically(folder_ / "tokenizer.json", made.tokenizer_json);
    write_file_atomically(folder_ / "tokenizer_config.json", made.tokenizer_config_json);
    return Tokenizer::load(folder_);
  }

  TokenStore tokens(int* times_made = nullptr) {
    return cached_tokens(tokenizer_, folder_, files_, cache_, [&](const TokenizeProgress& p) {
      if (times_made != nullptr && p.bytes == p.total_bytes) ++*times_made;
    });
  }
  fs::path only_file() const {
    const auto all = list_folder(cache_);
    EXPECT_EQ(all.size(), 1u);
    return all.at(0);
  }
  void expect_right(const TokenStore& store) const {
    const TokenDocuments want = tokenize_documents(tokenizer_, documents_);
    ASSERT_EQ(store.count(), want.count());
    EXPECT_EQ(store.tokens(), static_cast<int64_t>(want.ids.size()));
    std::vector<int32_t> ids;
    for (int64_t d = 0; d < store.count(); ++d) {
      const auto document = store.document(d);
      ids.insert(ids.end(), document.begin(), document.end());
      EXPECT_EQ(static_cast<int64_t>(ids.size()), want.ends[static_cast<size_t>(d)]);
    }
    EXPECT_EQ(ids, want.ids);
  }
};

TEST_F(TokenCache, HoldsWhatTokenisingGives) {
  const TokenDocuments one = tokenize_documents(tokenizer_, documents_);
  EXPECT_EQ(one.ids.front(), *tokenizer_.bos_id());
  EXPECT_EQ(one.ids.back(), *tokenizer_.eos_id());
  EXPECT_EQ(std::count(one.ids.begin(), one.ids.end(), *tokenizer_.eos_id()), one.count());
  const TokenStore store = tokens();
  expect_right(store);
  int64_t bytes = 0, want = 0;
  for (int64_t d = 0; d < store.count(); ++d) {
    for (const int32_t id : store.document(d)) bytes += store.bytes_of(id);
    want += static_cast<int64_t>(documents_[static_cast<size_t>(d)].size());
  }
  EXPECT_EQ(bytes, want);
}

TEST_F(TokenCache, IsMadeOnceForTheSameTextAndTokenizer) {
  int made = 0;
  expect_right(tokens(&made));
  expect_right(tokens(&made));
  EXPECT_EQ(made, 1);
  fs::rename(files_[1], folder_ / "c.txt");  // the name does not count
  files_[1] = folder_ / "c.txt";
  expect_right(tokens(&made));
  EXPECT_EQ(made, 1);
  only_file();

  documents_.back() += "!";
  write_file_atomically(files_[1], documents_.back());
  expect_right(tokens(&made));
  EXPECT_EQ(made, 2);
  tokenizer_ = make_tokenizer(265);
  expect_right(tokens(&made));
  EXPECT_EQ(made, 3);
  EXPECT_EQ(list_folder(cache_).size(), 3u);
}

TEST_F(TokenCache, IsTheSameFileForAnyNumberOfThreads) {
  std::string first;
  for (const int64_t threads : {1, 3}) {
    const ScopedThreads scope(threads);
    fs::remove_all(cache_);
    tokens();
    const std::string bytes = read_file(only_file());
    if (first.empty()) first = bytes;
    EXPECT_TRUE(bytes == first);
  }
}

// A flipped bit anywhere, a cut, a tail, another version, another key: seen, said and mended.
TEST_F(TokenCache, IsMadeAnewWhenItIsNotWhole) {
  tokens();
  const fs::path path = only_file();
  const std::string good = read_file(path);
  const auto damaged = [&](const std::string& bytes, const std::string& why) {
    SCOPED_TRACE(why);
    write_file_atomically(path, bytes);
    const Warnings warnings;
    int made = 0;
    expect_right(tokens(&made));
    EXPECT_EQ(made, 1);
    EXPECT_NE(warnings.text().find(path.filename().string() + " is made anew: " + why),
              std::string::npos)
        << warnings.text();
    EXPECT_TRUE(read_file(path) == good);
  };
  const auto flipped = [&](size_t at) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 4);
    return bytes;
  };
  damaged(flipped(0), "it is no cache of tokens");
  damaged(flipped(8), "it is of version 5");
  damaged(flipped(17), "it is of other text");
  damaged(flipped(24), str("it has ", good.size(), " bytes, not what its head says"));
  damaged(flipped(39), str("it has ", good.size(), " bytes, not what its head says"));
  for (const size_t at : {size_t{40}, size_t{64}, good.size() / 2, good.size() - 8}) {
    damaged(flipped(at), "it is damaged");
  }
  damaged(good.substr(0, good.size() - 8), str("it has ", good.size() - 8));
  damaged(good + "more", str("it has ", good.size() + 4));
  damaged("", "it has 0 bytes");
}

TEST_F(TokenCache, LeavesNothingBehindWhenTheTextIsBad) {
  write_file_atomically(files_[1], std::string(3, '\0'));
  EXPECT_ERROR(tokens(), kFormat, "b.txt: byte 0 is 0");
  EXPECT_TRUE(fs::is_empty(cache_));
  files_[1] = folder_ / "nowhere.txt";
  EXPECT_ERROR(tokens(), kIo, "nowhere.txt");
}

TEST_F(TokenCache, TellsHowFarItIs) {
  const std::string text(size_t{3} << 20, 'y');
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 1));
  files_.clear();
  int64_t total = 0;
  for (int i = 0; i < 6; ++i) {
    files_.push_back(folder_ / str("part", i, i % 2 == 0 ? ".txt" : ".txt.zst"));
    write_file_atomically(files_.back(), i % 2 == 0 ? text : packed);
    total += InputFile(files_.back()).size();
  }
  std::vector<TokenizeProgress> seen;
  cached_tokens(tokenizer_, folder_, files_, cache_,
                [&](const TokenizeProgress& p) { seen.push_back(p); });
  ASSERT_GE(seen.size(), 3u);
  for (size_t i = 0; i < seen.size(); ++i) {
    EXPECT_EQ(seen[i].total_bytes, total);
    if (i == 0) continue;
    EXPECT_GE(seen[i].bytes, seen[i - 1].bytes);
    EXPECT_GT(seen[i].tokens, 0);
  }
  EXPECT_EQ(seen.back().bytes, total);
  EXPECT_LT(seen.front().bytes, total);
}

TEST_F(TokenCache, AShorterFileIsAnErrorNotASignal) {
  TokenSource source(tokens(), {16, 0, 1, true});
  source.batch(0, 2);
  fs::resize_file(only_file(), 100);
  EXPECT_ERROR(source.batch(0, 2), kIo, only_file().filename().string());
}

}  // namespace
}  // namespace hadal
