#include "train/metrics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace hadal {
namespace {

TEST(Metrics, LayersAreToldApart) {
  const std::vector<double> norms{0.5, 1.0, 2.0};
  MoeLoad load{1, {6, 2, 0, 0}};
  load.entropy_sum = 5;
  load.measured_tokens = 4;
  const std::vector<LayerMetrics> layers = layer_metrics(norms, {&load, 1});
  ASSERT_EQ(layers.size(), 3u);
  EXPECT_EQ(layers[0].layer, -1);
  EXPECT_EQ(layers[0].gradient_norm, 0.5);
  EXPECT_TRUE(layers[1].load.empty());
  EXPECT_EQ(layers[2].layer, 1);
  EXPECT_EQ(layers[2].gradient_norm, 2.0);
  EXPECT_EQ(layers[2].load, load.counts);
  EXPECT_EQ(layers[2].max_vio, 2.0);  // 6 beside a mean of 2
  EXPECT_EQ(layers[2].gate_entropy, 1.25);
}

TEST(Metrics, MemoryIsThatOfThisProcess) {
  const MemoryUse before = memory_use();
  std::vector<char> block(64 << 20, 1);
  const MemoryUse with = memory_use();
  EXPECT_GT(before.resident_bytes, 1 << 20);
  EXPECT_GE(with.resident_bytes, before.resident_bytes + (48 << 20));
  EXPECT_GE(with.peak_bytes, with.resident_bytes - (1 << 20));
  EXPECT_EQ(block.back(), 1);
}

}  // namespace
}  // namespace hadal
