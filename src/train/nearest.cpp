#include "train/nearest.h"

#include <algorithm>
#include <numeric>

namespace hadal {
namespace {

// Edits that turn one word into another.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      const size_t replace = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replace, above + 1, row[j - 1] + 1});
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& words) {
  return *std::min_element(words.begin(), words.end(),
                           [&](const std::string& a, const std::string& b) {
                             return distance(word, a) < distance(word, b);
                           });
}

}  // namespace hadal
