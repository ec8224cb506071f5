#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "train/data.h"

namespace hadal {

// Rows of several sources, by weight. Which source a row comes from, and which of its rows it is,
// are pure functions of (seed, row): rows go in blocks of kBlock, in each of which every source has
// the same number of rows - its weight's share, at least one - in an order drawn from the seed.
// Within a source rows come in that source's own order, one after another, epoch after epoch.
class TokenMixture final : public RowSource {
 public:
  static constexpr int64_t kBlock = 4096;
  struct Part {
    std::string name;
    double weight = 1;  // positive; only the ratio to the others' counts
    TokenSource source;
  };
  struct Place {
    size_t part = 0;
    int64_t row = 0;
  };

  // Error{kUsage}: no part, a weight that is not positive, parts packed differently.
  TokenMixture(std::vector<Part> parts, uint64_t seed);

  Place place(int64_t row);
  TextBatch batch(int64_t row, int64_t sequences) override;
  const TokenSourceOptions& options() const override { return parts_[0].source.options(); }
  int64_t tokens() const override;  // of one epoch of each
  uint64_t content() const override;
  const std::vector<Part>& parts() const { return parts_; }
  // Rows of a block that come from each part.
  const std::vector<int64_t>& quotas() const { return quotas_; }

 private:
  void use_block(int64_t block);

  std::vector<Part> parts_;
  uint64_t seed_;
  std::vector<int64_t> quotas_;
  int64_t block_ = -1;
  std::vector<Place> places_;  // of block_
};

// How many of `total` go to each weight: sums to total, nearest to the exact shares, at least one.
std::vector<int64_t> share_out(int64_t total, const std::vector<double>& weights);

}  // namespace hadal
