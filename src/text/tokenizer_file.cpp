#include "text/tokenizer_file.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "text/byte_level.h"

namespace hadal {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 24;
// Published vocabularies have a hole or two; an id far beyond the number of tokens is a mistake or
// an attack.
constexpr int64_t kMaxHoles = 64;

// null and "" mean the same in such files.
std::string string_or_empty(const Json& object, const char* key, const std::string& where) {
  const Json* found = json_member_or_null(object, key);
  return found == nullptr ? "" : json_string(*found, str(where, ".", key));
}

// A token as a message shows it.
std::string shown(std::string_view token) {
  return json_brief(Json(std::string(token)));
}

std::string type_of(const Json& value, const std::string& where) {
  return json_string(json_member(json_object(value, where), "type", where), where + ".type");
}

class Reader {
 public:
  Reader(std::string_view json, const std::string& name)
      : name_(name), root_(parse_json(json, name)) {}

  TokenizerFile run() {
    json_object(root_, name_);
    const Json& model = json_object(json_member(root_, "model", name_), at("model"));
    check_model(model);
    check_normalizer();
    check_decoder();
    read_ids(json_object(json_member(model, "vocab", at("model")), at("model.vocab")));
    read_merges(json_array(json_member(model, "merges", at("model")), at("model.merges")));
    read_unknown(model);
    file_.pre_tokenizer = json_member(root_, "pre_tokenizer", name_);
    if (const Json* processor = json_member_or_null(root_, "post_processor")) {
      read_post_processor(*processor, at("post_processor"), true);
    }
    return std::move(file_);
  }

 private:
  std::string at(const char* path) const { return str(name_, ": ", path); }

  void check_model(const Json& model) {
    if (const Json* type = json_member_or_null(model, "type")) {
      HADAL_CHECK(*type == "BPE", kFormat, at("model.type"), " is ", json_brief(*type),
                  ", expected \"BPE\": only byte-level BPE tokenizers are supported");
    }
    HADAL_CHECK(!json_bool_or(model, "byte_fallback", false, at("model")), kFormat,
                at("model.byte_fallback"),
                " is true, expected false: only byte-level BPE tokenizers are supported");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const std::string value = string_or_empty(model, key, at("model"));
      HADAL_CHECK(value.empty(), kFormat, name_, ": model.", key, " is ", shown(value),
                  ", expected null");
    }
    if (const Json* dropout = json_member_or_null(model, "dropout")) {
      HADAL_CHECK(json_number(*dropout, at("model.dropout")) == 0, kFormat, at("model.dropout"),
                  " is ", json_brief(*dropout), ", expected null: encoding must not be random");
    }
    file_.options.ignore_merges = json_bool_or(model, "ignore_merges", false, at("model"));
    file_.options.fuse_unknown = json_bool_or(model, "fuse_unk", false, at("model"));
  }

  void check_normalizer() {
    const Json* normalizer = json_member_or_null(root_, "normalizer");
    if (normalizer == nullptr) return;
    const std::string type = type_of(*normalizer, at("normalizer"));
    const Json* list = json_member_or_null(*normalizer, "normalizers");
    const bool does_nothing = type == "Sequence" && list != nullptr &&
                              json_array(*list, at("normalizer.normalizers")).empty();
    HADAL_CHECK(does_nothing, kFormat, at("normalizer"), " is ", json_brief(*normalizer),
                ", expected null or an empty Sequence");
  }

  void check_decoder() {
    std::string where = at("decoder");
    const Json* decoder = &json_member(root_, "decoder", name_);
    if (decoder->is_object() && decoder->value("type", Json()) == "Sequence") {
      const Json& list = json_array(json_member(*decoder, "decoders", where), where + ".decoders");
      HADAL_CHECK(list.size() == 1, kFormat, where, ".decoders has ", list.size(),
                  " items, expected ByteLevel alone");
      where += ".decoders[0]";
      decoder = &list[0];
    }
    const std::string type = type_of(*decoder, where);
    HADAL_CHECK(type == "ByteLevel", kFormat, where, ".type is ", shown(type),
                ", expected \"ByteLevel\": only byte-level BPE tokenizers are supported");
  }

  void read_ids(const Json& vocab) {
    const Json empty = Json::array();
    const Json* list = json_member_or_null(root_, "added_tokens");
    const Json& added = list == nullptr ? empty : json_array(*list, at("added_tokens"));
    const auto tokens = static_cast<int64_t>(vocab.size() + added.size());
    HADAL_CHECK(tokens <= kMaxTokens, kFormat, name_, ": ", tokens, " tokens, expected at most ",
                kMaxTokens);
    id_limit_ = tokens + kMaxHoles;
    id_of_ = StringTable(static_cast<size_t>(tokens));
    for (const auto& [text, id] : vocab.get_ref<const Json::object_t&>()) {
      const auto where = [&key = text, this] {
        return str(at("model.vocab"), "[", shown(key), "]");
      };
      HADAL_CHECK(!text.empty(), kFormat, where(), " is an empty token");
      add_id(text, read_id(id, where), where, true);
    }
    next_id_ = static_cast<int64_t>(vocab.size());
    for (size_t i = 0; i < added.size(); ++i) {
      read_added(added[i], str(at("added_tokens"), "[", i, "]"));
    }
  }

  // `where` is a function: it makes the text of a message only when there is something to say.
  template <class Where>
  int32_t read_id(const Json& value, const Where& where) const {
    const bool is_plain = value.is_number_integer() && !value.is_number_unsigned();
    const int64_t id = is_plain ? value.get<int64_t>() : json_int(value, where());
    HADAL_CHECK(id >= 0 && id < id_limit_, kFormat, where(), " has id ", id,
                ", expected 0 <= id < ", id_limit_, " (tokens and ", kMaxHoles, ")");
    return static_cast<int32_t>(id);
  }

  // `text` is of the JSON tree, which lives as long as id_of_.
  template <class Where>
  void add_id(const std::string& text, int32_t id, const Where& where, bool is_model) {
    const auto index = static_cast<size_t>(id);
    if (file_.texts.size() <= index) {
      file_.texts.resize(index + 1);
      file_.is_model.resize(index + 1);
    }
    HADAL_CHECK(file_.texts[index].empty(), kFormat, where(), " has id ", id, ", which is that of ",
                shown(file_.texts[index]), " too");
    file_.texts[index] = text;
    file_.is_model[index] = is_model ? 1 : 0;
    id_of_.insert(text, id);
  }

  void read_added(const Json& value, const std::string& where) {
    json_object(value, where);
    AddedToken token;
    const std::string& content =
        json_string(json_member(value, "content", where), where + ".content");
    token.content = content;
    HADAL_CHECK(!token.content.empty(), kFormat, where, ".content is empty");
    HADAL_CHECK(token.content.size() <= AddedTokens::kMaxBytes, kFormat, where, ".content has ",
                token.content.size(), " bytes, expected at most ", AddedTokens::kMaxBytes);
    const auto place = [&] { return where; };
    token.id = read_id(json_member(value, "id", where), place);
    token.special = json_bool_or(value, "special", false, where);
    token.single_word = json_bool_or(value, "single_word", false, where);
    token.lstrip = json_bool_or(value, "lstrip", false, where);
    token.rstrip = json_bool_or(value, "rstrip", false, where);
    token.normalized = json_bool_or(value, "normalized", !token.special, where);
    HADAL_CHECK(added_contents_.insert(content, token.id), kFormat, where, " (",
                shown(token.content), ") stands in added_tokens twice");
    // Hugging Face gives an added token the id of the vocabulary or else the next free one,
    // whatever the file says; a file that says otherwise would mean two different things.
    const int32_t known = id_of_.find(content);
    const int64_t expected = known < 0 ? next_id_ : known;
    HADAL_CHECK(token.id == expected, kFormat, where, " (", shown(token.content), ") has id ",
                token.id, ", expected ", expected,
                known < 0 ? ", the next free id" : " as in model.vocab");
    if (known < 0) add_id(content, token.id, place, false);
    next_id_ = std::max<int64_t>(next_id_, int64_t{token.id} + 1);
    file_.added.push_back(std::move(token));
  }

  int32_t model_id(std::string_view text) const {
    const int32_t id = id_of_.find(text);
    return id >= 0 && file_.is_model[static_cast<size_t>(id)] != 0 ? id : -1;
  }

  void read_merges(const Json& list) {
    std::vector<std::pair<uint64_t, size_t>> pairs;
    pairs.reserve(list.size());
    file_.merges.reserve(list.size());
    std::string joined;
    for (size_t i = 0; i < list.size(); ++i) {
      if (is_version_line(list[i])) continue;
      const auto where = [&] { return str(at("model.merges"), "[", i, "]"); };
      const auto [left, right] = merge_parts(list[i]);
      HADAL_CHECK(!left.empty() && !right.empty(), kFormat, where(), " is ", json_brief(list[i]),
                  ", expected two tokens: \"a b\" or [\"a\", \"b\"]");
      joined.assign(left).append(right);
      const auto token = [&, &merge = list[i]](std::string_view text) {
        const int32_t id = model_id(text);
        HADAL_CHECK(id >= 0, kFormat, where(), " is ", json_brief(merge), ", but ", shown(text),
                    " is not in model.vocab");
        return id;
      };
      const BpeModel::Merge merge{token(left), token(right), token(joined)};
      pairs.emplace_back(uint64_t(uint32_t(merge.left)) << 32 | uint32_t(merge.right), i);
      file_.merges.push_back(merge);
    }
    std::sort(pairs.begin(), pairs.end());
    for (size_t i = 1; i < pairs.size(); ++i) {
      HADAL_CHECK(pairs[i - 1].first != pairs[i].first, kFormat, at("model.merges"), "[",
                  pairs[i].second, "] is ", json_brief(list[pairs[i].second]),
                  ", the same as model.merges[", pairs[i - 1].second, "]");
    }
  }

  // Such a line opens merges.txt and has come into older files.
  static bool is_version_line(const Json& value) {
    return value.is_string() && value.get_ref<const std::string&>().starts_with("#version");
  }

  // "a b" or ["a", "b"]; empty parts for anything else.
  static std::pair<std::string_view, std::string_view> merge_parts(const Json& value) {
    if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string()) {
      return {value[0].get_ref<const std::string&>(), value[1].get_ref<const std::string&>()};
    }
    if (!value.is_string()) return {};
    const std::string_view text = value.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
      return {};
    }
    return {text.substr(0, space), text.substr(space + 1)};
  }

  void read_unknown(const Json& model) {
    const std::string text = string_or_empty(model, "unk_token", at("model"));
    if (text.empty()) return;
    file_.options.unknown_id = model_id(text);
    HADAL_CHECK(file_.options.unknown_id >= 0, kFormat, at("model.unk_token"), " is ", shown(text),
                ", which is not in model.vocab");
  }

  void read_post_processor(const Json& value, const std::string& where, bool outer) {
    const std::string type = type_of(value, where);
    if (type == "ByteLevel") return;  // trims offsets, which we do not give
    if (type == "TemplateProcessing") return read_template(value, where);
    HADAL_CHECK(type == "Sequence" && outer, kFormat, where, ".type is ", shown(type),
                ", expected ByteLevel, TemplateProcessing or a Sequence of these");
    const std::string inner = where + ".processors";
    const Json& list = json_array(json_member(value, "processors", where), inner);
    for (size_t i = 0; i < list.size(); ++i) {
      read_post_processor(list[i], str(inner, "[", i, "]"), false);
    }
  }

  void read_template(const Json& value, const std::string& where) {
    HADAL_CHECK(!has_template_, kFormat, where, " is the second TemplateProcessing");
    has_template_ = true;
    const Json& specials =
        json_object(json_member(value, "special_tokens", where), where + ".special_tokens");
    const std::string single = where + ".single";
    const Json& items = json_array(json_member(value, "single", where), single);
    bool seen_text = false;
    for (size_t i = 0; i < items.size(); ++i) {
      const std::string item = str(single, "[", i, "]");
      if (json_object(items[i], item).contains("Sequence")) {
        HADAL_CHECK(!seen_text, kFormat, item, " is the second Sequence, expected one");
        seen_text = true;
        continue;
      }
      const Json& special = json_object(json_member(items[i], "SpecialToken", item), item);
      const std::string& id = json_string(json_member(special, "id", item), item + ".id");
      const auto found = specials.find(id);
      HADAL_CHECK(found != specials.end(), kFormat, item, ".id is ", shown(id),
                  ", which is not in special_tokens");
      const std::string ids = str(where, ".special_tokens[", shown(id), "].ids");
      for (const Json& token : json_array(json_member(*found, "ids", ids), ids)) {
        const int32_t known = read_id(token, [&] { return ids; });
        HADAL_CHECK(static_cast<size_t>(known) < file_.texts.size() &&
                        !file_.texts[static_cast<size_t>(known)].empty(),
                    kFormat, ids, " has ", known, ", which is the id of no token");
        (seen_text ? file_.template_suffix : file_.template_prefix).push_back(known);
      }
    }
    HADAL_CHECK(seen_text, kFormat, single, " has no Sequence, expected one for the text");
  }

  const std::string& name_;
  Json root_;
  TokenizerFile file_;
  int64_t id_limit_ = 0;
  int64_t next_id_ = 0;  // of the next added token
  StringTable id_of_, added_contents_;
  bool has_template_ = false;
};

// A token's name: "<s>" or {"content": "<s>", ...}.
std::optional<std::string> token_name(const Json& config, const char* key,
                                      const std::string& name) {
  const Json* value = json_member_or_null(config, key);
  if (value == nullptr) return std::nullopt;
  const std::string where = str(name, ": ", key);
  if (value->is_string()) return value->get<std::string>();
  return json_string(json_member(json_object(*value, where), "content", where), where + ".content");
}

std::optional<bool> optional_bool(const Json& config, const char* key, const std::string& name) {
  const Json* value = json_member_or_null(config, key);
  if (value == nullptr) return std::nullopt;
  return json_bool(*value, str(name, ": ", key));
}

}  // namespace

TokenizerFile parse_tokenizer_file(std::string_view json, const std::string& name) {
  return Reader(json, name).run();
}

TokenizerConfig parse_tokenizer_config(std::string_view json, const std::string& name) {
  const Json root = parse_json(json, name);
  json_object(root, name);
  TokenizerConfig config;
  config.bos_token = token_name(root, "bos_token", name);
  config.eos_token = token_name(root, "eos_token", name);
  config.pad_token = token_name(root, "pad_token", name);
  config.add_bos_token = optional_bool(root, "add_bos_token", name);
  config.add_eos_token = optional_bool(root, "add_eos_token", name);
  return config;
}

}  // namespace hadal
