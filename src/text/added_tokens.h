#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace hadal {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool single_word = false;  // only where no part of a word stands beside it
  bool lstrip = false;       // takes the white space on its left with it
  bool rstrip = false;
  bool normalized = true;  // searched after, not before, the tokens that are not
  bool special = false;
};

// Finds added tokens written in a text, with the rules of Hugging Face's added vocabulary: first
// those that are not `normalized`, then the others in what is left; the leftmost first, of those
// that begin there the longest. Immutable.
class AddedTokens {
 public:
  static constexpr size_t kMaxBytes = 512;  // of a token's content; keeps the search linear

  struct Piece {
    std::string_view text;
    int32_t id = -1;  // of the added token; -1 for ordinary text
  };

  AddedTokens() = default;
  explicit AddedTokens(const std::vector<AddedToken>& tokens);  // contents distinct, not empty

  // Appends the pieces of `text` (valid UTF-8) in order.
  void split(std::string_view text, std::vector<Piece>& pieces) const;

 private:
  // One pass of the search.
  class Finder {
   public:
    void add(const AddedToken& token);
    bool empty() const { return tokens_.empty(); }
    void split(std::string_view text, std::vector<Piece>& pieces) const;

   private:
    // Length of the longest token at the start of `text`, and which; 0 when none.
    size_t longest(std::string_view text, size_t& which) const;

    std::vector<AddedToken> tokens_;
    std::array<bool, 256> starts_{};                // bytes that begin a token
    std::unordered_map<uint64_t, uint32_t> edges_;  // node << 8 | byte -> node; 0 is the root
    std::vector<int64_t> token_of_node_ = {-1};
  };

  Finder first_, second_;
};

}  // namespace hadal
