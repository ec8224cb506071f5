#include "train/token_cache.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/hash.h"
#include "core/log.h"
#include "core/parallel.h"

namespace hadal {
namespace {

constexpr std::string_view kMagic = "hadaltok";
constexpr uint64_t kVersion = 1;  // another one whenever the same text may give other ids
constexpr int64_t kHeaderBytes = 64;
constexpr int64_t kRoundBytes = int64_t{8} << 20;

// ---- from text to ids

std::vector<int32_t> bytes_of_ids(const Tokenizer& tokenizer) {
  std::vector<int32_t> bytes;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const bool text = tokenizer.has_token(id) && !tokenizer.is_special(id);
    bytes.push_back(text ? static_cast<int32_t>(tokenizer.token_bytes(id).size()) : 0);
  }
  return bytes;
}

int32_t eos_of(const Tokenizer& tokenizer) {
  const std::optional<int32_t> eos = tokenizer.eos_id();
  HADAL_CHECK(eos.has_value(), kConfig,
              "the tokenizer names no eos_token, which must end each document of training text");
  return *eos;
}

// Encodes in rounds, so that memory holds the text of one round only.
class Encoder {
 public:
  using Sink = std::function<void(std::span<const int32_t> document)>;
  Encoder(const Tokenizer& tokenizer, Sink sink)
      : tokenizer_(tokenizer), eos_(eos_of(tokenizer)), sink_(std::move(sink)) {}

  // True at the end of a round.
  bool add(std::string_view document) {
    waiting_.emplace_back(document);
    bytes_ += static_cast<int64_t>(document.size());
    if (bytes_ < kRoundBytes) return false;
    encode();
    return true;
  }

  void encode() {
    std::vector<std::vector<int32_t>> encoded(waiting_.size());
    parallel_tasks(static_cast<int64_t>(waiting_.size()), [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      encoded[at] = tokenizer_.encode(waiting_[at], {.special = false});
      encoded[at].insert(encoded[at].begin(), tokenizer_.prefix_ids().begin(),
                         tokenizer_.prefix_ids().end());
      encoded[at].push_back(eos_);
    });
    for (const std::vector<int32_t>& ids : encoded) sink_(ids);
    waiting_.clear();
    bytes_ = 0;
  }

 private:
  const Tokenizer& tokenizer_;
  int32_t eos_;
  Sink sink_;
  std::vector<std::string> waiting_;
  int64_t bytes_ = 0;
};

// ---- the file

struct Header {
  std::array<char, 8> magic{};
  uint64_t version = 0, key = 0;
  int64_t documents = 0, tokens = 0;
  uint64_t hash = 0;
  std::array<uint64_t, 2> zero{};
};
static_assert(sizeof(Header) == kHeaderBytes);

int64_t ids_bytes(int64_t tokens) {
  return (tokens * 4 + 7) / 8 * 8;
}

void hash_header(const Header& header, Hash64& hash) {
  hash.add(std::as_bytes(std::span(&header, 1)).first(offsetof(Header, hash)));
}

// The names of files say what kind of text they hold; the rest of the name does not count.
uint64_t key_of(const Tokenizer& tokenizer, const fs::path& tokenizer_path,
                std::span<const fs::path> files) {
  const fs::path file =
      fs::is_directory(tokenizer_path) ? tokenizer_path / "tokenizer.json" : tokenizer_path;
  std::string text = str("tokens ", kVersion, "\ntokenizer ", hex64(hash_file(file)), "\naround");
  for (const int32_t id : tokenizer.prefix_ids()) text += str(" ", id);
  text += str(" | ", eos_of(tokenizer), "\n");
  std::vector<uint64_t> hashes(files.size());
  parallel_tasks(static_cast<int64_t>(files.size()), [&](int64_t i) {
    hashes[static_cast<size_t>(i)] = hash_file(files[static_cast<size_t>(i)]);
  });
  for (size_t i = 0; i < files.size(); ++i) {
    text +=
        str(files[i].stem().extension() == ".jsonl" ? ".jsonl" : "", files[i].extension().string(),
            " ", InputFile(files[i]).size(), " ", hex64(hashes[i]), "\n");
  }
  Hash64 hash;
  hash.add(std::as_bytes(std::span(text)));
  return hash.value();
}

// Writes ids as they come; the rest when all are there.
class CacheWriter {
 public:
  CacheWriter(const fs::path& path, uint64_t key) : file_(path) {
    std::memcpy(header_.magic.data(), kMagic.data(), kMagic.size());
    header_.version = kVersion;
    header_.key = key;
    put(std::as_bytes(std::span(&header_, 1)));
  }

  void add(std::span<const int32_t> document) {
    waiting_.insert(waiting_.end(), document.begin(), document.end());
    header_.tokens += static_cast<int64_t>(document.size());
    ends_.push_back(header_.tokens);
    if (waiting_.size() * 4 >= static_cast<size_t>(kRoundBytes)) flush();
  }
  int64_t tokens() const { return header_.tokens; }

  void finish() {
    flush();
    const std::array<std::byte, 8> zeros{};
    put(std::span(zeros).first(
        static_cast<size_t>(ids_bytes(header_.tokens) - header_.tokens * 4)));
    put_hashed(std::as_bytes(std::span(ends_)));
    header_.documents = static_cast<int64_t>(ends_.size());
    hash_header(header_, hash_);
    header_.hash = hash_.value();
    file_.write_at(0, std::as_bytes(std::span(&header_, 1)));
    file_.commit();
  }

 private:
  void put(std::span<const std::byte> bytes) {
    file_.write_at(at_, bytes);
    at_ += static_cast<int64_t>(bytes.size());
  }
  void put_hashed(std::span<const std::byte> bytes) {
    hash_.add(bytes);
    put(bytes);
  }
  void flush() {
    put_hashed(std::as_bytes(std::span(waiting_)));
    waiting_.clear();
  }

  AtomicFile file_;
  int64_t at_ = 0;
  Header header_;
  std::vector<int32_t> waiting_;
  std::vector<int64_t> ends_;
  Hash64 hash_;
};

void make_cache(const Tokenizer& tokenizer, std::span<const fs::path> files, const fs::path& path,
                uint64_t key, const TokenizeWatch& watch) {
  CacheWriter writer(path, key);
  TokenizeProgress progress;
  for (const fs::path& file : files) progress.total_bytes += InputFile(file).size();
  const auto tell = [&] {
    progress.tokens = writer.tokens();
    if (watch) watch(progress);
  };
  Encoder encoder(tokenizer, [&](std::span<const int32_t> ids) { writer.add(ids); });
  for (const fs::path& file : files) {
    progress.file = file;
    read_documents(
        file,
        [&](std::string_view document) {
          if (encoder.add(document)) tell();
        },
        [&](int64_t bytes) { progress.bytes += bytes; });
  }
  encoder.encode();
  tell();
  writer.finish();
}

struct Contents {
  std::span<const int32_t> ids;  // in the mapping
  std::vector<int64_t> ends;
  uint64_t hash = 0;
};

// Why the file is not the cache with this key; empty when it is, with its parts in `contents`.
std::string flaw(std::span<const std::byte> bytes, uint64_t key, Contents& contents) {
  Header header;
  if (bytes.size() < sizeof(Header)) return str("it has ", bytes.size(), " bytes");
  std::memcpy(&header, bytes.data(), sizeof(Header));
  if (std::string_view(header.magic.data(), 8) != kMagic) return "it is no cache of tokens";
  if (header.version != kVersion) return str("it is of version ", header.version);
  if (header.key != key) return "it is of other text or of another tokenizer";
  const auto size = static_cast<int64_t>(bytes.size());
  if (header.tokens < 0 || header.documents < 0 || header.tokens > size / 4 ||
      header.documents > size / 8 ||
      kHeaderBytes + ids_bytes(header.tokens) + header.documents * 8 != size) {
    return str("it has ", size, " bytes, not what its head says");
  }
  // Mapped at a page's start, so the ids are aligned.
  const std::byte* ids = bytes.data() + kHeaderBytes;
  contents.ids = {reinterpret_cast<const int32_t*>(ids), static_cast<size_t>(header.tokens)};
  contents.ends.resize(static_cast<size_t>(header.documents));
  std::memcpy(contents.ends.data(), ids + ids_bytes(header.tokens), contents.ends.size() * 8);
  Hash64 hash;
  hash.add(std::as_bytes(contents.ids));
  hash.add(std::as_bytes(std::span(contents.ends)));
  hash_header(header, hash);
  const std::vector<int64_t>& ends = contents.ends;
  const bool whole =
      hash.value() == header.hash && std::is_sorted(ends.begin(), ends.end()) &&
      (ends.empty() ? header.tokens == 0 : ends.front() >= 0 && ends.back() == header.tokens);
  contents.hash = header.hash;
  return whole ? "" : "it is damaged: its hash is another";
}

}  // namespace

TokenDocuments tokenize_documents(const Tokenizer& tokenizer,
                                  std::span<const std::string> documents) {
  TokenDocuments result;
  result.bytes_of_id = bytes_of_ids(tokenizer);
  Encoder encoder(tokenizer, [&](std::span<const int32_t> ids) { result.add(ids); });
  for (const std::string& document : documents) encoder.add(document);
  encoder.encode();
  return result;
}

TokenStore cached_tokens(const Tokenizer& tokenizer, const fs::path& tokenizer_path,
                         std::span<const fs::path> files, const fs::path& folder,
                         const TokenizeWatch& watch) {
  const uint64_t key = key_of(tokenizer, tokenizer_path, files);
  const fs::path path = folder / (hex64(key) + ".tokens");
  const auto open = [&](std::string& wrong) {
    auto file = std::make_shared<const MappedFile>(path);
    Contents contents;
    wrong = flaw(file->bytes(), key, contents);
    file->check_intact();
    return TokenStore(std::move(file), contents.ids,
                      {{}, std::move(contents.ends), bytes_of_ids(tokenizer)}, contents.hash);
  };
  std::string wrong;
  if (fs::exists(path)) {
    TokenStore store = open(wrong);
    if (wrong.empty()) return store;
    spdlog::warn("{} is made anew: {}", path.string(), wrong);
  }
  make_folder(folder);
  make_cache(tokenizer, files, path, key, watch);
  TokenStore store = open(wrong);
  HADAL_CHECK(wrong.empty(), kIo, path.string(), " was written just now, but ", wrong);
  return store;
}

fs::path default_token_cache() {
  for (const auto& [name, below] :
       {std::pair{"XDG_CACHE_HOME", "hadal"}, {"HOME", ".cache/hadal"}}) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0') return fs::path(value) / below;
  }
  throw Error(ErrorKind::kUsage,
              "where shall tokenised text be kept? Neither XDG_CACHE_HOME nor HOME is set; give "
              "data.cache");
}

}  // namespace hadal
