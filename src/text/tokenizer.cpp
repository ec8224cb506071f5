#include "text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/byte_level.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer_file.h"
#include "text/utf8.h"

namespace hadal {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 28;
constexpr size_t kMaxTextBytes = size_t{1} << 31;

}  // namespace

struct Tokenizer::Impl {
  std::vector<std::string> texts;  // of every id
  std::vector<std::string> bytes;  // what it decodes to
  std::vector<bool> is_added, is_special;
  StringTable id_of_text;
  AddedTokens added;
  std::optional<PreTokenizer> pre_tokenizer;
  std::optional<BpeModel> bpe;
  TokenizerConfig config;
  std::optional<int32_t> bos, eos, pad;
  std::vector<int32_t> prefix, suffix;

  bool has(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < texts.size() &&
           !texts[static_cast<size_t>(id)].empty();
  }
  std::optional<int32_t> find(std::string_view text) const {
    const int32_t id = id_of_text.find(text);
    return id < 0 ? std::nullopt : std::optional(id);
  }

  void build(TokenizerFile file, const std::string& name);
  void build_bpe(const TokenizerFile& file, const std::string& name);
  void apply_config(const std::string& name, const TokenizerFile& file);
  std::optional<int32_t> named(const std::optional<std::string>& token, const char* key,
                               const std::string& name) const;
};

void Tokenizer::Impl::build(TokenizerFile file, const std::string& name) {
  texts = std::move(file.texts);
  bytes.reserve(texts.size());
  id_of_text = StringTable(texts.size());
  for (size_t id = 0; id < texts.size(); ++id) {
    bytes.push_back(from_byte_level(texts[id]).value_or(texts[id]));
    if (!texts[id].empty()) id_of_text.insert(texts[id], static_cast<int32_t>(id));
  }
  is_added.resize(texts.size());
  is_special.resize(texts.size());
  for (const AddedToken& token : file.added) {
    is_added[static_cast<size_t>(token.id)] = true;
    is_special[static_cast<size_t>(token.id)] = token.special;
  }
  added = AddedTokens(file.added);
  pre_tokenizer = PreTokenizer::from_json(file.pre_tokenizer, name + ": pre_tokenizer");
  build_bpe(file, name);
  apply_config(name, file);
}

void Tokenizer::Impl::build_bpe(const TokenizerFile& file, const std::string& name) {
  std::array<int32_t, 256> byte_ids{};
  for (size_t byte = 0; byte < 256; ++byte) {
    std::string spelt;
    append_utf8(spelt, byte_level_char(static_cast<uint8_t>(byte)));
    const int32_t id = id_of_text.find(spelt);
    byte_ids[byte] = id >= 0 && file.is_model[static_cast<size_t>(id)] != 0 ? id : -1;
  }
  HADAL_CHECK(std::any_of(byte_ids.begin(), byte_ids.end(), [](int32_t id) { return id >= 0; }),
              kFormat, name, ": model.vocab spells no byte: this is not a byte-level tokenizer");
  std::vector<std::pair<std::string_view, int32_t>> words;
  for (size_t id = 0; id < texts.size(); ++id) {
    // Text that spells a special token stays text, also under ignore_merges.
    if (file.is_model[id] == 0 || is_special[id] || !from_byte_level(texts[id])) continue;
    words.emplace_back(bytes[id], static_cast<int32_t>(id));
  }
  bpe.emplace(byte_ids, file.merges, words, static_cast<int64_t>(texts.size()), file.options);
}

std::optional<int32_t> Tokenizer::Impl::named(const std::optional<std::string>& token,
                                              const char* key, const std::string& name) const {
  if (!token) return std::nullopt;
  const auto id = find(*token);
  HADAL_CHECK(id, kFormat, name, ": tokenizer_config.json names ", key, " \"", *token,
              "\", which is no token");
  return id;
}

void Tokenizer::Impl::apply_config(const std::string& name, const TokenizerFile& file) {
  prefix = file.template_prefix;
  suffix = file.template_suffix;
  bos = named(config.bos_token, "bos_token", name);
  eos = named(config.eos_token, "eos_token", name);
  pad = named(config.pad_token, "pad_token", name);
  if (!bos && prefix.size() == 1) bos = prefix[0];
  if (!eos && suffix.size() == 1) eos = suffix[0];
  // What the configuration says outright is newer than the template.
  if (config.add_bos_token) {
    HADAL_CHECK(bos || !*config.add_bos_token, kFormat, name,
                ": tokenizer_config.json has add_bos_token, but no bos_token");
    prefix.clear();
    if (*config.add_bos_token) prefix.push_back(*bos);
  }
  if (config.add_eos_token) {
    HADAL_CHECK(eos || !*config.add_eos_token, kFormat, name,
                ": tokenizer_config.json has add_eos_token, but no eos_token");
    suffix.clear();
    if (*config.add_eos_token) suffix.push_back(*eos);
  }
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json, std::string_view config_json,
                               const std::string& name) {
  auto impl = std::make_unique<Impl>();
  if (!config_json.empty()) {
    impl->config = parse_tokenizer_config(config_json, name + ": tokenizer_config.json");
  }
  impl->build(parse_tokenizer_file(tokenizer_json, name), name);
  return Tokenizer(std::move(impl));
}

Tokenizer Tokenizer::load(const fs::path& file_or_folder) {
  fs::path file = file_or_folder;
  std::error_code none;  // what cannot be asked about is found out by opening it
  if (fs::is_directory(file, none)) {
    file /= "tokenizer.json";
    for (const char* other : {"tokenizer.model", "spiece.model", "tiktoken.model", "qwen.tiktoken",
                              "vocab.json", "vocab.txt"}) {
      HADAL_CHECK(fs::exists(file, none) || !fs::exists(file_or_folder / other, none), kFormat,
                  file_or_folder.string(), " has ", other,
                  " but no tokenizer.json, the only format of tokenizers that is read");
    }
  }
  const fs::path config = file.parent_path() / "tokenizer_config.json";
  return from_json(read_file(file, kMaxFileBytes),
                   fs::exists(config, none) ? read_file(config, kMaxFileBytes) : "", file.string());
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  HADAL_CHECK(text.size() < kMaxTextBytes, kResource, "tokenizer: a text of ", text.size(),
              " bytes, expected less than ", kMaxTextBytes);
  std::string repaired;
  if (!is_utf8(text)) {
    repaired = repair_utf8(text);
    text = repaired;
  }
  std::vector<AddedTokens::Piece> pieces;
  if (options.special) {
    impl_->added.split(text, pieces);
  } else {
    pieces.push_back({text, -1});
  }
  PreTokenizer::Scratch scratch(text.size());
  BpeModel::Scratch merging;
  std::vector<std::string_view> words;
  std::vector<int32_t> ids;
  for (const auto& piece : pieces) {
    if (piece.id >= 0) {
      ids.push_back(piece.id);
      continue;
    }
    words.clear();
    impl_->pre_tokenizer->split(piece.text, scratch, words);
    for (const std::string_view word : words) impl_->bpe->encode(word, merging, ids);
  }
  if (options.add_special_tokens) {
    const auto& prefix = impl_->prefix;
    const bool has_prefix =
        ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
    if (!has_prefix) ids.insert(ids.begin(), prefix.begin(), prefix.end());
    ids.insert(ids.end(), impl_->suffix.begin(), impl_->suffix.end());
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!skip_special || !is_special(id)) bytes += token_bytes(id);
  }
  return is_utf8(bytes) ? bytes : repair_utf8(bytes);
}

int64_t Tokenizer::vocab_size() const {
  return static_cast<int64_t>(impl_->texts.size());
}

std::optional<int32_t> Tokenizer::token_id(std::string_view token) const {
  return impl_->find(token);
}

bool Tokenizer::has_token(int32_t id) const {
  return impl_->has(id);
}

const std::string& Tokenizer::token_bytes(int32_t id) const {
  static const std::string none;
  return has_token(id) ? impl_->bytes[static_cast<size_t>(id)] : none;
}

const std::string& Tokenizer::token_text(int32_t id) const {
  static const std::string none;
  return has_token(id) ? impl_->texts[static_cast<size_t>(id)] : none;
}

bool Tokenizer::is_special(int32_t id) const {
  return has_token(id) && impl_->is_special[static_cast<size_t>(id)];
}

bool Tokenizer::is_added(int32_t id) const {
  return has_token(id) && impl_->is_added[static_cast<size_t>(id)];
}

std::optional<int32_t> Tokenizer::bos_id() const {
  return impl_->bos;
}
std::optional<int32_t> Tokenizer::eos_id() const {
  return impl_->eos;
}
std::optional<int32_t> Tokenizer::pad_id() const {
  return impl_->pad;
}
std::span<const int32_t> Tokenizer::prefix_ids() const {
  return impl_->prefix;
}
std::span<const int32_t> Tokenizer::suffix_ids() const {
  return impl_->suffix;
}
const TokenizerConfig& Tokenizer::config() const {
  return impl_->config;
}

}  // namespace hadal
