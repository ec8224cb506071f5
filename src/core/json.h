#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace hadal {

// A JSON tree. What comes from outside is parsed by parse_json alone; what we write is built as
// OrderedJson, so that keys stay in the order a reader expects.
using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

// Parses text from outside with simdjson: strict JSON, valid UTF-8, at most 512 levels deep, no key
// twice in one object. Error{kFormat} starts with `name` (a path) and says what is wrong and where.
Json parse_json(std::string_view text, const std::string& name);
// The same with the keys of objects in the order of the text.
OrderedJson parse_ordered_json(std::string_view text, const std::string& name);

// Typed look-up with errors that name file, key, value and expectation: Error{kFormat}.
// `where` is "config.json" or "model.safetensors: tensor \"x\"".
int64_t json_int(const Json& value, const std::string& where);
double json_number(const Json& value, const std::string& where);
bool json_bool(const Json& value, const std::string& where);
const std::string& json_string(const Json& value, const std::string& where);
const Json& json_object(const Json& value, const std::string& where);
const Json& json_array(const Json& value, const std::string& where);
// The value of a key, which must be there.
const Json& json_member(const Json& object, const char* key, const std::string& where);
// Null when the key is not there or its value is null.
const Json* json_member_or_null(const Json& object, const char* key);
bool json_bool_or(const Json& object, const char* key, bool otherwise, const std::string& where);
// A value as short text for a message: at most 60 characters.
std::string json_brief(const Json& value);

}  // namespace hadal
