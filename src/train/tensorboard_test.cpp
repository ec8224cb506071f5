#include "train/tensorboard.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/testing.h"

namespace hadal {
namespace {

std::string bytes(std::initializer_list<int> values) {
  std::string out;
  for (const int v : values) out += static_cast<char>(v);
  return out;
}

uint64_t little_endian(const std::string& s, size_t at, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i)
    value |= uint64_t{static_cast<unsigned char>(s[at + i])} << 8 * i;
  return value;
}

// RFC 3720, B.4, and the check value of the CRC catalogue.
TEST(Tensorboard, Crc32cOfKnownBytes) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(""), 0u);
}

TEST(Tensorboard, RecordIsLengthAndMaskedSums) {
  const std::string record = tfrecord("123456789");
  ASSERT_EQ(record.size(), 8u + 4 + 9 + 4);
  EXPECT_EQ(little_endian(record, 0, 8), 9u);
  EXPECT_EQ(record.substr(12, 9), "123456789");
  // e3069283 turned right by 15 is 2507c60d; with a282ead8 added, c78ab0e5.
  EXPECT_EQ(little_endian(record, 21, 4), 0xc78ab0e5u);
}

// Field by field what protoc would write for
//   wall_time: 1.0 step: 300 summary { value { tag: "a" simple_value: 2 } }
TEST(Tensorboard, ScalarEventByByte) {
  const EventValue value{"a", 2.0f};
  EXPECT_EQ(summary_event(300, 1.0, {&value, 1}),
            bytes({0x09, 0,    0,    0, 0,   0, 0, 0xf0, 0x3f,  // 1: 1.0
                   0x10, 0xac, 0x02,                            // 2: 300
                   0x2a, 0x0a,                                  // 5: 10 bytes
                   0x0a, 0x08,                                  // 1: 8 bytes
                   0x0a, 0x01, 'a',                             // 1: "a"
                   0x15, 0,    0,    0, 0x40}));                // 2: 2.0f
}

TEST(Tensorboard, TextEventByByte) {
  const EventValue value{"t", std::string("hi")};
  EXPECT_EQ(summary_event(1, 0.0, {&value, 1}).substr(11),
            bytes({0x2a, 0x19, 0x0a, 0x17,               // summary, value
                   0x0a, 0x01, 't',                      // tag
                   0x42, 0x08,                           // tensor
                   0x08, 0x07, 0x12, 0x00,               //   DT_STRING, scalar
                   0x42, 0x02, 'h',  'i',                //   string_val
                   0x4a, 0x08, 0x0a, 0x06,               // metadata, plugin_data
                   0x0a, 0x04, 't',  'e',  'x', 't'}));  //   plugin_name
}

TEST(Tensorboard, HistogramHasABucketAnEntry) {
  const EventValue value{"h", EventHistogram{{3, 0, 1}}};
  const std::string event = summary_event(1, 0.0, {&value, 1});
  const auto real = [&](size_t at) {
    double x = 0;
    std::memcpy(&x, event.data() + at, sizeof(x));
    return x;
  };
  // 11 bytes of time and step, 4 of headers, 3 of the tag, 2 of the histogram's header
  const size_t begin = 11 + 4 + 3 + 2;
  const double expected[] = {-0.5, 2.5, 4, 2, 4};  // min, max, num, sum, sum of squares
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(real(begin + 9 * i + 1), expected[i]) << i;
  const size_t limits = begin + 45 + 2, counts = limits + 24 + 2;
  EXPECT_EQ(real(limits), 0.5);
  EXPECT_EQ(real(limits + 16), 2.5);
  EXPECT_EQ(real(counts), 3);
  EXPECT_EQ(real(counts + 16), 1);
  EXPECT_EQ(event.size(), counts + 24);
}

TEST(Tensorboard, FileBeginsWithItsVersionAndWhereItGoesOn) {
  const fs::path folder = scratch_dir() / "tb";
  EventFile file(folder, 7, 1700000000);
  EXPECT_EQ(file.path().filename(), "events.out.tfevents.1700000000.hadal.7");
  const std::string before = read_file(file.path());
  EXPECT_NE(before.find("brain.Event:2"), std::string::npos);
  EXPECT_NE(before.find(bytes({0x10, 0x08, 0x3a, 0x02, 0x08, 0x01})), std::string::npos);
  const EventValue value{"a", 2.0f};
  file.add(8, 1.0, {&value, 1});
  file.flush();
  EXPECT_EQ(read_file(file.path()), before + tfrecord(summary_event(8, 1.0, {&value, 1})));
}

}  // namespace
}  // namespace hadal
