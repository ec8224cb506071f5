#pragma once
#include <ctime>
#include <map>
#include <memory>
#include <string>

#include "core/files.h"
#include "text/jinja/template.h"

namespace hadal {

// How a model wants its conversations written: its template or templates, and the tokens they may
// name. What comes out is what Hugging Face's apply_chat_template gives (transformers 5.23).
class ChatTemplate {
 public:
  // A model folder (chat_template.jinja, else tokenizer_config.json's chat_template), or a file
  // with a template. Tokens such as bos_token come from `tokenizer_config`, by default the
  // tokenizer_config.json in the same folder; for a template alone there need not be one.
  // Error{kFormat, kIo}; Error{kUsage} when the model has no template.
  static ChatTemplate load(const fs::path& folder_or_file, const fs::path& tokenizer_config = {});

  // `request` has messages and whatever else the template knows: add_generation_prompt, tools, ...
  // Error{kFormat} for one without messages.
  std::string render(const OrderedJson& request, std::time_t now = std::time(nullptr)) const;

 private:
  const JinjaTemplate& chosen(const OrderedJson& request) const;

  std::string name_;
  std::map<std::string, JinjaTemplate> templates_;  // "default" where the file has no names
  OrderedJson tokens_ = OrderedJson::object();
};

}  // namespace hadal
