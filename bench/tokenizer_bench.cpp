// Speed of the tokenizer on one thread, for tools/bench_tokenizer.py:
//   tokenizer_bench --tokenizer FILE --input FILE --repeat N
// FILE.jsonl has {"text": ...} a line; any other file is one text. Encodes all texts once untimed
// and N times timed and prints {"mb_per_s": median, "bytes": ..., "tokens": ...}; MB is 1e6 bytes.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "text/tokenizer.h"

namespace {

using namespace hadal;

std::map<std::string, std::string> read_arguments(int argc, char** argv) {
  std::map<std::string, std::string> arguments = {
      {"--tokenizer", ""}, {"--input", ""}, {"--repeat", "3"}};
  for (int i = 1; i < argc; i += 2) {
    const auto known = arguments.find(argv[i]);
    HADAL_CHECK(known != arguments.end() && i + 1 < argc, kUsage, "argument ", argv[i],
                ": expected --tokenizer FILE --input FILE --repeat N");
    known->second = argv[i + 1];
  }
  return arguments;
}

std::vector<std::string> read_texts(const fs::path& path) {
  std::string file = read_file(path);
  if (path.extension() != ".jsonl") return {std::move(file)};
  std::vector<std::string> texts;
  for (size_t begin = 0; begin < file.size();) {
    const size_t end = std::min(file.find('\n', begin), file.size());
    if (end > begin) {
      const Json line =
          parse_json(std::string_view(file).substr(begin, end - begin), path.string());
      texts.push_back(json_string(line.at("text"), path.string() + ": text"));
    }
    begin = end + 1;
  }
  return texts;
}

void run(int argc, char** argv) {
  auto arguments = read_arguments(argc, argv);
  const std::string& repeat_text = arguments["--repeat"];
  int64_t repeat = 0;
  std::from_chars(repeat_text.data(), repeat_text.data() + repeat_text.size(), repeat);
  HADAL_CHECK(repeat >= 1, kUsage, "--repeat is ", repeat_text, ", expected 1 or more");
  const Tokenizer tokenizer = Tokenizer::load(arguments["--tokenizer"]);
  const std::vector<std::string> texts = read_texts(arguments["--input"]);
  int64_t bytes = 0;
  for (const std::string& text : texts) bytes += static_cast<int64_t>(text.size());

  int64_t tokens = 0;
  std::vector<double> rates;
  for (int64_t i = 0; i <= repeat; ++i) {
    tokens = 0;
    const auto start = std::chrono::steady_clock::now();
    for (const std::string& text : texts) {
      tokens += static_cast<int64_t>(tokenizer.encode(text).size());
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    if (i > 0) rates.push_back(static_cast<double>(bytes) / 1e6 / seconds.count());
  }
  std::sort(rates.begin(), rates.end());
  std::cout << "{\"mb_per_s\": " << rates[rates.size() / 2] << ", \"bytes\": " << bytes
            << ", \"tokens\": " << tokens << "}\n";
}

}  // namespace

int main(int argc, char** argv) try {
  run(argc, argv);
  return 0;
} catch (const std::exception& error) {
  std::cerr << "tokenizer_bench: " << error.what() << "\n";
  return 1;
}
