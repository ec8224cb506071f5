// Every file of tests/fuzz/attacks/{safetensors,index} is refused, and for the reason it was made.
// tools/make_attacks.py writes them.
#include <gtest/gtest.h>

#include <map>

#include "io/checkpoint.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

using Reasons = std::map<std::string, std::string>;  // file without extension -> words of the error

const Reasons kSafetensorsReasons{
    {"file_empty", "has 0 bytes, expected at least the 8"},
    {"file_of_7_bytes", "has 7 bytes, expected at least the 8"},
    {"length_0", "header length is 0, expected at least 8"},
    {"length_7", "header length is 7, expected at least 8"},
    {"length_2_to_63", "header length is 9223372036854775808, expected at most 100000000"},
    {"length_2_to_64_less_1", "header length is 18446744073709551615, expected at most"},
    {"length_beyond_file", "header length is 9, but the file has 8 bytes after it"},
    {"length_over_100_mb", "header length is 100000001, expected at most 100000000"},
    {"starts_with_bracket", "header starts with byte 91, expected 123"},
    {"starts_with_space", "header starts with byte 32, expected 123"},
    {"starts_with_0xff", "header starts with byte 255, expected 123"},
    {"not_json", "header: not valid JSON"},
    {"text_after_header", "header: not valid JSON"},
    {"nul_after_header", "header: not valid JSON"},
    {"bad_utf8", "header: not valid JSON: The input is not valid UTF-8"},
    {"half_surrogate", "header: not valid JSON"},
    {"deep", "header: not valid JSON: The JSON document was too deep"},
    {"name_twice", "header: key \"x\" stands twice in one object"},
    {"name_twice_escaped", "header: key \"x\" stands twice in one object"},
    {"key_twice", "header: key \"shape\" stands twice in one object"},
    {"metadata_not_object", "__metadata__ is [1], expected an object"},
    {"metadata_not_strings", "__metadata__, key \"a\" is 1, expected a string"},
    {"tensor_not_object", "tensor \"x\" is [1], expected an object"},
    {"field_missing", "tensor \"x\" has no \"data_offsets\"; expected dtype, shape and"},
    {"field_unknown", "tensor \"x\": unknown key \"y\", expected dtype, shape and data_offsets"},
    {"dtype_unknown", "tensor \"x\": dtype \"F4\" is unknown; expected one of F32"},
    {"dtype_long", "tensor \"x\": dtype \"F32F32F32F32F32F32F32F32F32F32F32F32F32F\" is unknown"},
    {"dtype_number", "tensor \"x\": dtype is 32, expected a string"},
    {"shape_not_array", "tensor \"x\": shape is 2, expected an array"},
    {"shape_negative", "tensor \"x\": shape holds -2, expected integers from 1"},
    {"shape_two_negatives", "tensor \"x\": shape holds -1, expected integers from 1"},
    {"shape_float", "tensor \"x\": shape holds 2.5, expected integers from 1"},
    {"shape_float_whole", "tensor \"x\": shape holds 2.0, expected integers from 1"},
    {"shape_text", "tensor \"x\": shape holds \"2\", expected integers from 1"},
    {"shape_2_to_63", "tensor \"x\": shape holds 9223372036854775808, expected integers"},
    {"shape_1e30", "tensor \"x\": shape holds 1e+30, expected integers"},
    {"shape_digits", "header: not valid JSON: Problem while parsing a number"},
    {"shape_product_overflows", "shape [4294967296, 4294967296] of F32 overflows"},
    {"shape_product_wraps_to_8", "shape [4611686018427387906] of F32 overflows"},
    {"shape_of_9_dimensions", "shape has 9 dimensions, expected at most 8"},
    {"size_zero", "tensor \"a\": shape holds 0, expected integers from 1"},
    {"size_zero_huge", "tensor \"a\": shape holds 0, expected integers from 1"},
    {"offsets_not_array", "tensor \"x\": data_offsets is 8, expected an array"},
    {"offsets_of_one", "tensor \"x\": data_offsets is [8], expected [begin, end]"},
    {"offsets_of_three", "tensor \"x\": data_offsets is [0,8,16], expected [begin, end]"},
    {"offsets_negative", "tensor \"x\": data_offsets holds -8, expected integers from 0"},
    {"offsets_float", "tensor \"x\": data_offsets holds 8.0, expected integers from 0"},
    {"offsets_2_to_64", "tensor \"x\": data_offsets holds 18446744073709551615, expected integers"},
    {"end_before_begin", "tensor \"x\": data_offsets [8, 0) end before they begin"},
    {"end_beyond_file", "data_offsets [0, 12) lie beyond the file, which has 8 bytes of data"},
    {"end_far_beyond_file", "[0, 9223372036854775804) lie beyond the file, which has 8 bytes"},
    {"offsets_too_short_for_shape", "[0, 8) span 8 bytes, but F32 of shape [4] has 16"},
    {"offsets_too_long_for_shape", "[0, 8) span 8 bytes, but F32 of shape [1] has 4"},
    {"overlap", "tensor \"b\" at [4, 12) overlaps \"a\" at [0, 8)"},
    {"overlap_same_bytes", "at [0, 8) overlaps "},
    {"hole", "tensor \"b\" begins at byte 12, expected 8: the bytes between belong to no tensor"},
    {"hole_at_start", "tensor \"x\" begins at byte 4, expected 0"},
    {"tail", "the tensors end at byte 8 of 9: the last 1 bytes belong to no tensor"},
    {"tail_without_tensors", "the tensors end at byte 0 of 1"},
    {"data_cut_off", "tensor \"b\": data_offsets [8, 16) lie beyond the file, which has 15 bytes"},
};

const Reasons kIndexReasons{
    {"empty", "not valid JSON"},
    {"not_json", "not valid JSON"},
    {"not_object", "is [\"a\"], expected an object"},
    {"bad_utf8", "not valid JSON: The input is not valid UTF-8"},
    {"deep", "not valid JSON: The JSON document was too deep"},
    {"name_twice", "key \"a\" stands twice in one object"},
    {"map_missing", "has no \"weight_map\""},
    {"map_empty", "weight_map is empty"},
    {"map_not_object", "weight_map is [\"a\"], expected an object"},
    {"file_not_text", "weight_map, tensor \"a\" is 1, expected a string"},
    {"file_empty", "tensor \"a\": a file name of 0 bytes, expected 1 to 255"},
    {"file_up", "tensor \"a\" is \"../../etc/x.safetensors\", expected a file name without"},
    {"file_up_inside", "is \"sub/../../x.safetensors\", expected a file name without a folder"},
    {"file_absolute", "is \"/etc/x.safetensors\", expected a file name without a folder"},
    {"file_in_folder", "is \"sub/x.safetensors\", expected a file name without a folder"},
    {"file_backslash", "is \"..\\x5cx.safetensors\", expected a file name without a folder"},
    {"file_nul", "is \"x.safetensors\\x00.safetensors\", expected a file name without a folder"},
    {"file_newline", "is \"x\\x0a.safetensors\", expected a file name without a folder"},
    {"file_dots", "is \"..\", expected a file name without a folder"},
    {"file_hidden", "is \".safetensors\", expected a file name without a folder"},
    {"file_long", "a file name of 312 bytes, expected 1 to 255"},
    {"file_pickle", "is \"pytorch_model-00001-of-00002.bin\", expected a .safetensors file"},
    {"metadata_not_object", "metadata is [], expected an object"},
    {"size_negative", "total_size is -1, expected the bytes of all tensors"},
    {"size_text", "total_size is \"16\", expected an integer"},
    {"size_2_to_63", "total_size is 9223372036854775808, expected an integer below 2^63"},
};

fs::path fuzz_dir() {
  return source_dir() / "tests" / "fuzz";
}

// Calls attack(path) for each file and wants its words in the error.
template <class Attack>
void expect_all_refused(const std::string& kind, const Reasons& reasons, Attack attack) {
  size_t files = 0;
  for (const fs::path& path : list_folder(fuzz_dir() / "attacks" / kind)) {
    SCOPED_TRACE(path.string());
    const auto reason = reasons.find(path.stem().string());
    ASSERT_NE(reason, reasons.end()) << "an attack without an expected error";
    EXPECT_ERROR(attack(path), kFormat, reason->second);
    EXPECT_ERROR(attack(path), kFormat, path.string());
    ++files;
  }
  EXPECT_EQ(files, reasons.size()) << "an expected error without an attack";
}

TEST(Attacks, safetensors_files_are_refused_on_disk) {
  expect_all_refused("safetensors", kSafetensorsReasons,
                     [](const fs::path& path) { SafetensorsFile file(path); });
}

TEST(Attacks, safetensors_headers_are_refused_in_memory) {
  expect_all_refused("safetensors", kSafetensorsReasons, [](const fs::path& path) {
    const std::string bytes = read_file(path);
    parse_header(std::as_bytes(std::span(bytes.data(), bytes.size())), path.string());
  });
}

TEST(Attacks, indices_are_refused) {
  expect_all_refused("index", kIndexReasons,
                     [](const fs::path& path) { parse_index(read_file(path), path.string()); });
}

TEST(Attacks, errors_stay_short_whatever_the_file_holds) {
  for (const fs::path& path : list_folder(fuzz_dir() / "attacks" / "safetensors")) {
    try {
      SafetensorsFile file(path);
    } catch (const Error& e) {
      EXPECT_LT(std::string(e.what()).size(), path.string().size() + 400) << e.what();
    }
  }
}

TEST(FuzzSeeds, what_is_called_ok_is_accepted) {
  size_t accepted = 0;
  for (const char* kind : {"safetensors", "index"}) {
    for (const fs::path& path : list_folder(fuzz_dir() / "corpus" / kind)) {
      if (!path.stem().string().starts_with("ok_")) continue;
      const bool index = path.extension() == ".json";
      EXPECT_NO_THROW(index ? void(parse_index(read_file(path), path.string()))
                            : void(SafetensorsFile(path)))
          << path;
      ++accepted;
    }
  }
  EXPECT_GE(accepted, 14u);
}

}  // namespace
}  // namespace hadal
