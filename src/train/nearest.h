#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace hadal {

// The word that the fewest insertions, deletions and replacements of letters turn `word` into; the
// first of several. For "did you mean": `words` is not empty.
std::string nearest(std::string_view word, const std::vector<std::string>& words);

}  // namespace hadal
