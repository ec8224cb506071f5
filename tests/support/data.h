#pragma once
#include <filesystem>
#include <string>

namespace hadal {

// The folder of shared test data: the environment's HADAL_DATA, or ../shared/data beside the
// source tree. It may be absent.
std::filesystem::path data_dir();

// Why a test that needs data_dir() / name cannot run; empty when it can:
//   if (auto why = missing_data("tokenizer"); !why.empty()) GTEST_SKIP() << why;
std::string missing_data(const std::string& name);

}  // namespace hadal
