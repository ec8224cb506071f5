#include "train/mixture.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/hash.h"

namespace hadal {
namespace {

constexpr uint64_t kMixStream = uint64_t{1} << 43;  // + block; see data.cpp for the others

}  // namespace

std::vector<int64_t> share_out(int64_t total, const std::vector<double>& weights) {
  const auto n = static_cast<int64_t>(weights.size());
  HADAL_CHECK(n >= 1 && n <= total, kUsage, "a mixture of ", n, " sources, expected 1 to ", total);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<int64_t> shares;
  std::vector<double> exact;
  for (const double weight : weights) {
    HADAL_CHECK(weight > 0 && std::isfinite(sum), kUsage, "a source's weight is ", weight,
                ", expected a positive number");
    exact.push_back(weight / sum * static_cast<double>(total));
    shares.push_back(std::max(int64_t{1}, static_cast<int64_t>(exact.back())));
  }
  int64_t left = total - std::accumulate(shares.begin(), shares.end(), int64_t{0});
  for (const int64_t step = left > 0 ? 1 : -1; left != 0; left -= step) {
    // The one that is furthest below its share, or above it and has more than one.
    size_t best = 0;
    double most = -1e300;
    for (size_t i = 0; i < shares.size(); ++i) {
      const double lack = static_cast<double>(step) * (exact[i] - static_cast<double>(shares[i]));
      if (shares[i] + step >= 1 && lack > most) {
        most = lack;
        best = i;
      }
    }
    shares[best] += step;
  }
  return shares;
}

TokenMixture::TokenMixture(std::vector<Part> parts, uint64_t seed)
    : parts_(std::move(parts)), seed_(seed) {
  std::vector<double> weights;
  for (const Part& part : parts_) weights.push_back(part.weight);
  quotas_ = share_out(kBlock, weights);
  for (const Part& part : parts_) {
    const TokenSourceOptions &first = options(), &other = part.source.options();
    HADAL_CHECK(
        first.sequence_length == other.sequence_length && first.mtp_depth == other.mtp_depth &&
            first.document_mask == other.document_mask,
        kUsage, "source ", part.name, " is packed in another way than source ", parts_[0].name);
  }
}

int64_t TokenMixture::tokens() const {
  int64_t sum = 0;
  for (const Part& part : parts_) sum += part.source.tokens();
  return sum;
}

uint64_t TokenMixture::content() const {
  Hash64 hash;
  for (const Part& part : parts_) {
    const uint64_t one = part.source.content();
    hash.add(std::as_bytes(std::span(&one, 1)));
  }
  return hash.value();
}

void TokenMixture::use_block(int64_t block) {
  if (block == block_) return;
  // Labels in order of the parts, shuffled; then each part's rows are counted through.
  std::vector<size_t> labels;
  for (size_t i = 0; i < quotas_.size(); ++i) {
    labels.insert(labels.end(), static_cast<size_t>(quotas_[i]), i);
  }
  const Permutation order(kBlock, seed_, kMixStream + static_cast<uint64_t>(block));
  std::vector<int64_t> next;
  for (const int64_t quota : quotas_) next.push_back(block * quota);
  places_.clear();
  for (int64_t i = 0; i < kBlock; ++i) {
    const size_t part = labels[static_cast<size_t>(order(i))];
    places_.push_back({part, next[part]++});
  }
  block_ = block;
}

TokenMixture::Place TokenMixture::place(int64_t row) {
  if (parts_.size() == 1) return {0, row};
  use_block(row / kBlock);
  return places_[static_cast<size_t>(row % kBlock)];
}

TextBatch TokenMixture::batch(int64_t row, int64_t sequences) {
  if (parts_.size() == 1) return parts_[0].source.batch(row, sequences);
  TextBatch all;
  for (int64_t i = 0; i < sequences; ++i) {
    const Place at = place(row + i);
    const TextBatch one = parts_[at.part].source.batch(at.row, 1);
    append(all.batch, one.batch);
    all.bytes += one.bytes;
  }
  return all;
}

}  // namespace hadal
