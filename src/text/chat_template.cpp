#include "text/chat_template.h"

namespace hadal {
namespace {

constexpr const char* kTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                   "pad_token", "cls_token", "mask_token"};
// What a message's reasoning may be called, the first that is there counts.
constexpr const char* kReasoning[] = {"reasoning_content", "thinking", "reasoning"};

// A string, or an object with "content" as an added token is written.
OrderedJson token_text(const OrderedJson& value, const std::string& where) {
  const bool object = value.is_object() && value.contains("content");
  const OrderedJson& text = object ? value["content"] : value;
  HADAL_CHECK(text.is_string(), kFormat, where,
              " is neither a string nor an object with a string \"content\"");
  return text;
}

// Templates read reasoning_content, and some older ones thinking: both are given.
OrderedJson with_reasoning(const OrderedJson& message) {
  const OrderedJson* reasoning = nullptr;
  for (const char* key : kReasoning) {
    const auto found = message.find(key);
    if (reasoning == nullptr && found != message.end() && !found->is_null()) reasoning = &*found;
  }
  if (reasoning == nullptr) return message;
  OrderedJson out = OrderedJson::object();
  out["thinking"] = *reasoning;
  for (const auto& [key, value] : message.items()) out[key] = value;
  out["reasoning_content"] = *reasoning;
  return out;
}

}  // namespace

ChatTemplate ChatTemplate::load(const fs::path& folder_or_file, const fs::path& tokenizer_config) {
  const bool is_folder = fs::is_directory(folder_or_file);
  const fs::path folder = is_folder ? folder_or_file : folder_or_file.parent_path();
  const bool is_config = folder_or_file.extension() == ".json";
  const fs::path config = !tokenizer_config.empty() ? tokenizer_config
                          : is_config               ? folder_or_file
                                                    : folder / "tokenizer_config.json";
  ChatTemplate out;
  out.name_ = folder_or_file.string();
  OrderedJson root = OrderedJson::object();
  if (!tokenizer_config.empty() || fs::exists(config)) {
    root = parse_ordered_json(read_file(config), config.string());
    HADAL_CHECK(root.is_object(), kFormat, config.string(), " is no object, expected one");
  }
  for (const char* key : kTokens) {
    const auto found = root.find(key);
    if (found == root.end() || found->is_null()) continue;
    out.tokens_[key] = token_text(*found, str(config.string(), ": ", key));
  }
  const auto add = [&](const std::string& name, const std::string& text, const std::string& where) {
    out.templates_.emplace(name, JinjaTemplate::parse(text, where));
  };
  const fs::path file = is_folder ? folder / "chat_template.jinja" : folder_or_file;
  if (!is_config && (!is_folder || fs::exists(file))) {
    add("default", read_file(file), file.string());
    return out;
  }
  const auto found = root.find("chat_template");
  HADAL_CHECK(found != root.end() && !found->is_null(), kUsage, out.name_,
              " has no chat template: neither chat_template.jinja nor chat_template in "
              "tokenizer_config.json; give one with --template FILE, or use hadal generate");
  const std::string where = config.string() + ": chat_template";
  if (found->is_string()) {
    add("default", found->get<std::string>(), where);
    return out;
  }
  HADAL_CHECK(found->is_array(), kFormat, where,
              " is neither a string nor an array of {\"name\", \"template\"}");
  for (const OrderedJson& row : *found) {
    const bool good = row.is_object() && row.contains("name") && row["name"].is_string() &&
                      row.contains("template") && row["template"].is_string();
    HADAL_CHECK(good, kFormat, where, ": an item is not {\"name\": string, \"template\": string}");
    const auto name = row["name"].get<std::string>();
    add(name, row["template"].get<std::string>(), where + " \"" + name + "\"");
  }
  return out;
}

const JinjaTemplate& ChatTemplate::chosen(const OrderedJson& request) const {
  const auto tools = request.find("tools");
  const bool with_tools = tools != request.end() && !tools->is_null();
  auto found = with_tools ? templates_.find("tool_use") : templates_.end();
  if (found == templates_.end()) found = templates_.find("default");
  HADAL_CHECK(found != templates_.end(), kFormat, name_,
              ": none of the chat templates has the name \"default\"");
  return found->second;
}

std::string ChatTemplate::render(const OrderedJson& request, std::time_t now) const {
  HADAL_CHECK(request.is_object() && request.contains("messages") && request["messages"].is_array(),
              kFormat, name_, ": the request is no object with an array \"messages\"");
  OrderedJson variables = tokens_;
  variables["tools"] = nullptr;
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = false;
  for (const auto& [key, value] : request.items()) variables[key] = value;
  OrderedJson messages = OrderedJson::array();
  for (const OrderedJson& message : request["messages"]) {
    HADAL_CHECK(message.is_object(), kFormat, name_, ": a message is no object, expected one");
    messages.push_back(with_reasoning(message));
  }
  variables["messages"] = std::move(messages);
  return chosen(request).render(variables, now);
}

}  // namespace hadal
