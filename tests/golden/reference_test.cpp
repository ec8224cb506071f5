// The reference of tests/reference against Hugging Face transformers: what the conformance tests
// hold the program to is itself held to the golden files.
#include "tests/reference/reference.h"

#include <algorithm>

#include "io/safetensors.h"
#include "model/pretrained.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

// Of the largest logit; measured: 1.6e-7. The files hold results of double precision, rounded to
// FP32 once.
constexpr double kBound = 3e-7;

std::vector<std::string> cases() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(source_dir() / "tests" / "golden")) {
    if (entry.is_directory()) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

template <class T>
std::vector<T> read(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo& info = *file.find(name);
  std::vector<T> out(size_t(info.size()));
  file.read(info, 0, std::as_writable_bytes(std::span(out)));
  return out;
}

void expect_logits(const SafetensorsFile& file, const std::string& name,
                   const reference::Rows& got) {
  const std::vector<float> want = read<float>(file, name);
  const size_t width = got[0].size();
  double worst = 0, largest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    worst = std::max(worst, std::abs(got[i / width][i % width] - double(want[i])));
    largest = std::max(largest, std::abs(double(want[i])));
  }
  EXPECT_LE(worst, kBound * largest) << name;
}

class GoldenReference : public testing::TestWithParam<std::string> {};

TEST_P(GoldenReference, logits_agree) {
  const fs::path folder = source_dir() / "tests" / "golden" / GetParam();
  const SafetensorsFile file(folder / "golden.safetensors");
  ConfigWarnings warnings;
  LoadOptions options;
  options.training = true;  // all values in FP32
  const reference::Model model(*load_pretrained(folder, options, warnings).model);

  const std::vector<int64_t> raw = read<int64_t>(file, "ids");
  const std::vector<int32_t> ids(raw.begin(), raw.end());
  std::vector<std::string> names;
  for (const char* name : {"mtp_logits", "mtp_logits.1"}) {
    if (file.find(name) != nullptr) names.push_back(name);
  }
  std::vector<std::vector<int32_t>> mtp_ids;
  for (size_t k = 0; k < names.size(); ++k) {
    mtp_ids.emplace_back(ids.begin() + std::ptrdiff_t(k + 1), ids.end());
    mtp_ids[k].resize(ids.size());  // rows without a next token are not compared
  }
  const reference::Output out = model.forward(ids, mtp_ids);
  expect_logits(file, "logits", out.logits);
  for (size_t k = 0; k < names.size(); ++k) expect_logits(file, names[k], out.mtp_logits[k]);
}

INSTANTIATE_TEST_SUITE_P(all, GoldenReference, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace hadal
