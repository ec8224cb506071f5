// Chat templates from anywhere: an error, or text that is the same every time and valid UTF-8.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"
#include "text/jinja/template.h"
#include "text/utf8.h"

namespace {

using namespace hadal;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

const OrderedJson& variables() {
  static const OrderedJson json = OrderedJson::parse(R"({"messages": [
      {"role": "system", "content": " Be kind. "}, {"role": "user", "content": "Hé\n"},
      {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f",
       "arguments": {"z": 1, "a": [true, null, 1.5]}}}]}], "add_generation_prompt": true,
      "s": "Hello", "l": [3, 1, 2], "d": {"one": 1, "two": "zwei"}, "n": 7, "x": 2.5})");
  return json;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  jinja::Limits limits;
  limits.steps = 100'000;
  limits.bytes = 1 << 22;
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const JinjaTemplate t = JinjaTemplate::parse(text, "fuzz");
    const std::string out = t.render(variables(), 0, limits);
    require(is_utf8(out));
    require(t.render(variables(), 0, limits) == out);
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::kFormat);
  }
  return 0;
}
