#include "text/tokenizer_json.h"

#include "text/byte_level.h"
#include "text/known_patterns.h"

namespace hadal {
namespace {

OrderedJson byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

OrderedJson added_token(const SpecialToken& token, int64_t id) {
  return {
      {"id", id},        {"content", token.content}, {"single_word", false},    {"lstrip", false},
      {"rstrip", false}, {"normalized", false},      {"special", token.special}};
}

// "A" after the BOS token, and for pairs "B" after another.
OrderedJson bos_template(const std::string& bos, int64_t id) {
  const auto special = [&](int type) {
    return OrderedJson{{"SpecialToken", {{"id", bos}, {"type_id", type}}}};
  };
  const auto sequence = [](const char* name, int type) {
    return OrderedJson{{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  OrderedJson result = {{"type", "TemplateProcessing"}};
  result["single"] = OrderedJson::array({special(0), sequence("A", 0)});
  result["pair"] = OrderedJson::array({special(0), sequence("A", 0), special(1), sequence("B", 1)});
  result["special_tokens"][bos] = {
      {"id", bos}, {"ids", OrderedJson::array({id})}, {"tokens", OrderedJson::array({bos})}};
  return result;
}

OrderedJson bpe_model(const std::vector<std::string>& tokens,
                      const std::vector<std::pair<int32_t, int32_t>>& merges,
                      const std::vector<SpecialToken>& specials) {
  OrderedJson model = {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"byte_fallback", false},
                       {"ignore_merges", false}};
  // An ordered object looks every new key up among all others; its underlying list does not.
  OrderedJson vocab = OrderedJson::object();
  auto& entries = vocab.get_ref<OrderedJson::object_t&>();
  entries.reserve(specials.size() + tokens.size());
  int64_t id = 0;
  for (const SpecialToken& token : specials) entries.emplace_back(token.content, id++);
  std::vector<std::string> spelt;
  for (const std::string& bytes : tokens) {
    spelt.push_back(to_byte_level(bytes));
    entries.emplace_back(spelt.back(), id++);
  }
  model["vocab"] = std::move(vocab);
  OrderedJson list = OrderedJson::array();
  for (const auto& [left, right] : merges) {
    list.push_back(spelt[static_cast<size_t>(left)] + " " + spelt[static_cast<size_t>(right)]);
  }
  model["merges"] = std::move(list);
  return model;
}

OrderedJson tokenizer_config(const BpeTrainOptions& options) {
  OrderedJson config = {{"add_bos_token", options.add_bos_token}, {"add_eos_token", false}};
  const auto name = [&](const char* key, int64_t index) {
    if (index < 0) return;
    config[key] = options.special_tokens[static_cast<size_t>(index)].content;
  };
  name("bos_token", options.bos_index);
  name("eos_token", options.eos_index);
  name("pad_token", options.pad_index);
  config["clean_up_tokenization_spaces"] = false;
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  return config;
}

}  // namespace

OrderedJson deepseek_v3_pre_tokenizer() {
  OrderedJson list = OrderedJson::array();
  for (const char* pattern : kDeepSeekV3Patterns) {
    list.push_back({{"type", "Split"},
                    {"pattern", {{"Regex", pattern}}},
                    {"behavior", "Isolated"},
                    {"invert", false}});
  }
  list.push_back(byte_level(false));
  return {{"type", "Sequence"}, {"pretokenizers", std::move(list)}};
}

TokenizerJson write_tokenizer(const std::vector<std::string>& tokens,
                              const std::vector<std::pair<int32_t, int32_t>>& merges,
                              const OrderedJson& pre_tokenizer, const BpeTrainOptions& options) {
  OrderedJson added = OrderedJson::array();
  int64_t id = 0;
  for (const SpecialToken& token : options.special_tokens)
    added.push_back(added_token(token, id++));
  id += static_cast<int64_t>(tokens.size());
  for (const SpecialToken& token : options.added_tokens) added.push_back(added_token(token, id++));

  OrderedJson file = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  file["added_tokens"] = std::move(added);
  file["normalizer"] = nullptr;
  file["pre_tokenizer"] = pre_tokenizer;
  file["post_processor"] = byte_level(true);
  if (options.add_bos_token) {
    const std::string& bos = options.special_tokens[static_cast<size_t>(options.bos_index)].content;
    file["post_processor"] = bos_template(bos, options.bos_index);
  }
  file["decoder"] = byte_level(true);
  file["model"] = bpe_model(tokens, merges, options.special_tokens);
  return {file.dump(1) + "\n", tokenizer_config(options).dump(2) + "\n"};
}

}  // namespace hadal
