#pragma once
#include <cstdint>
#include <span>
#include <string_view>

namespace hadal {

// The scales of an operand of E4M3 numbers: a float for each tile of 128 of k and `lanes` lanes (1
// or 128), where a lane is a row of A in C, or a column of B. That of lane l in tile t of k is
//   data[(first_lane + l) / lanes * lane_stride + t * k_stride],
// with rows[l] in the place of first_lane + l when the operand has `rows`.
struct TileScales {
  const float* data = nullptr;
  int64_t lane_stride = 0, k_stride = 0, lanes = 1, first_lane = 0;
};

// One matrix of a GEMM as it lies in memory: row-major, `stride` elements from row to row, FP32,
// BF16 or FP16; E4M3 numbers in BF16, or E4M3 codes, when it has scales. With `rows`, stored row i
// is data + rows[i] * stride: a token list read while packing; of E4M3 numbers, only where rows are
// lanes.
struct GemmOperand {
  const void* data = nullptr;
  int64_t stride = 0;
  bool bf16 = false;
  const int32_t* rows = nullptr;
  TileScales scales = {};
  bool fp16 = false, codes = false;

  int64_t element_bytes() const { return codes ? 1 : bf16 || fp16 ? 2 : 4; }
};

// C[m, n] (+)= op(A) op(B), one thread's share.
//   kNT  A [m, k], B [n, k]    y = x W^T        (Fprop)
//   kNN  A [m, k], B [k, n]    dx = dy W        (Dgrad)
//   kTN  A [k, m], B [k, n]    dW = dy^T x      (Wgrad)
// Every c[i, j] is the same chain of fused multiply-adds over k, whatever m, n, i, j and the
// neighbours are: a caller may cut C into any blocks, and a row never depends on the other rows.
enum class GemmOp { kNT, kNN, kTN };
struct Gemm {
  GemmOp op = GemmOp::kNT;
  int64_t m = 0, n = 0, k = 0;
  GemmOperand a{}, b{};
  float* c = nullptr;
  int64_t c_stride = 0;
  bool accumulate = false;
  // Arithmetic: FP32, or operands rounded to BF16 (nearest even) and products summed in FP32.
  // Operands that both have scales: FP8 with promotion every 128 of k (gemm_fp8.inl), the same bits
  // in every family. Only B, codes of kNT in tiles of 128 x 128: it is taken as the numbers code *
  // scale, rounded to FP32.
  bool bf16_arithmetic = false;
};

// One update of AdamW (train/adamw.h), the same for all numbers of a row.
struct AdamWRow {
  float scale = 1;                                 // of the gradient: clipping
  float first_share = 0.1f, second_share = 0.05f;  // 1 - beta
  float step = 0;                                  // lr / (1 - beta1^t)
  float inv_root = 1;                              // 1 / sqrt(1 - beta2^t)
  float eps = 1e-8f;
  float decay = 0;  // lr * weight decay
};

// 32 columns of a row of x as int8: number = code * scale.
struct CodedGroup {
  float scale = 0;
  int32_t minus = 0;  // the sum of the codes, negated
  int8_t codes[32] = {};
};
// Rows of such groups, ceil(k / 32) each, the last filled up with zeros. Row r is the one at
// rows[r] where that is not null.
struct CodedRows {
  const CodedGroup* groups = nullptr;
  const int32_t* rows = nullptr;
};
// y [count, n] = x [count, k] times the transpose of w [n, k], int8 or int4 in panels
// (kernels/panels.h); block_bytes tells which.
struct PanelProduct {
  const void* w = nullptr;
  int64_t block_bytes = 0, n = 0, k = 0;
  CodedRows x = {};
  int64_t count = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
};

// How the numbers of a weight lie, for kernels that read rows of it: E4M3 codes are numbers without
// scales there.
enum class Stored : uint8_t { kF32, kBF16, kF16, kE4M3 };

// y[r, j] = sum_i x[r, i] w[i, j] for k rows of w, n numbers long. Where x_block is not 0 x differs
// from one block of kAcrossBlock columns to the next and lies so much further on for each.
inline constexpr int64_t kAcrossBlock = 128;
struct AcrossProduct {
  const void* w = nullptr;
  Stored stored = Stored::kF32;
  int64_t w_stride = 0, k = 0, n = 0;
  const float* x = nullptr;
  int64_t x_stride = 0, x_block = 0, rows = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
};

// y [rows, n] = x [rows, k] times the transpose of n rows of E4M3 codes, which hold no NaN. They
// are rows first_row and on of a matrix whose scales, one for each block of 128 x 128, lie
// scale_stride from one row of blocks to the next.
inline constexpr int64_t kFp8RowsAtOnce = 16;
struct Fp8Product {
  const uint8_t* w = nullptr;
  int64_t w_stride = 0, n = 0, k = 0;
  const float* scales = nullptr;
  int64_t scale_stride = 0, first_row = 0;
  const float* x = nullptr;
  int64_t x_stride = 0, rows = 0;
  float* y = nullptr;
  int64_t y_stride = 0;

  // Floats of the kernel's workspace.
  int64_t workspace() const {
    const int64_t at_once = rows < kFp8RowsAtOnce ? rows : kFp8RowsAtOnce;
    return 2 * at_once * ((k + 63) / 64 * 64);
  }
};

struct AttentionPart;
struct AttentionGradient;

// One function pointer per inner loop. A kernel sees raw pointers only: it never allocates, throws,
// starts threads or reads globals. Callers (ops/) have already checked every shape.
// n is a number of elements; pointers need no alignment; outputs may not overlap inputs unless
// said.
struct Kernels {
  const char* family;  // "scalar", "avx2", "avx512", "avx512_bf16"

  // ---- matrix products (gemm.inl, gemm_fp8.inl, gemv.inl)
  int64_t (*gemm_workspace)(const Gemm& g) noexcept;  // bytes, 64-byte aligned
  void (*gemm)(const Gemm& g, void* workspace) noexcept;
  // y[r, i] (+)= sum_j w[i, j] x[r, j] for n rows of w and `rows` rows of x. For memory-bound
  // decode; a row of x never sees the others. Not of codes: those are fp8_product's.
  void (*gemv)(const void* w, Stored stored, int64_t w_stride, int64_t n, int64_t k, const float* x,
               int64_t x_stride, int64_t rows, float* y, int64_t y_stride,
               bool accumulate) noexcept;
  // As gemv, with w as it stands: no row of x sees the others.
  void (*gemv_across)(const AcrossProduct& p) noexcept;

  // The same as gemv for codes (fp8_product.inl). x is FP32, but rounded to BF16 after the scales
  // were multiplied with it where the family has dots of BF16.
  void (*fp8_product)(const Fp8Product& p, float* workspace) noexcept;

  // ---- products of int8 and int4 weights (panel.inl); the same bits in every family.
  // n numbers -> codes -127 .. 127 and a scale, amax / 127, for each 32 of them: code = nearest of
  // value * (127 / amax), so it is within (1/2 + 2^-15) scale of the value. A group that is not
  // finite has the scale NaN; one below 127 * 2^-126 is zeros.
  void (*code_row)(const float* x, int64_t n, CodedGroup* groups) noexcept;
  // Reads each weight once for up to eight rows or so. A row of x never sees the others.
  void (*panel_product)(const PanelProduct& p) noexcept;

  // ---- rows of numbers (row.inl). Each result is a function of the row alone.
  float (*dot)(const float* a, const float* b, int64_t n) noexcept;
  float (*row_max)(const float* x, int64_t n) noexcept;  // of what is not NaN; -inf of nothing
  // y = e^(x - shift), y may be x; returns the sum of y.
  float (*exp_row)(const float* x, float shift, float* y, int64_t n) noexcept;
  void (*sigmoid_row)(const float* x, float* y, int64_t n) noexcept;              // y may be x
  void (*scale_row)(float a, float* y, int64_t n) noexcept;                       // y *= a
  void (*add_row)(const float* x, float* y, int64_t n) noexcept;                  // y += x
  void (*add_scaled_row)(float a, const float* x, float* y, int64_t n) noexcept;  // y += a x
  // To bits of BF16, rounded to nearest even, and back; the same bits in every family.
  void (*to_bf16_row)(const float* x, uint16_t* y, int64_t n) noexcept;
  void (*from_bf16_row)(const uint16_t* x, float* y, int64_t n) noexcept;

  // ---- FP8 (fp8_codec.inl; V3 report, sec. 3.3.2): scale = amax / 448 of a tile, code = nearest
  // E4M3 of value / scale; a tile with a number that is not finite has the scale NaN. The same bits
  // in every family, and as encode_fp8 of quant/fp8.h. Tiles of 1 x 128 of a row; of 128 x 1 and of
  // 128 x 128 of a band of m <= 128 rows, those of x that `rows` lists unless it is null. Codes are
  // dense; scales are one a tile, of one row of tiles. What products read are not codes but their
  // numbers, as bits of BF16: fp8_round_*.
  void (*fp8_encode_row)(const float* x, int64_t n, uint8_t* codes, float* scales) noexcept;
  void (*fp8_round_row)(const float* x, int64_t n, uint16_t* numbers, float* scales) noexcept;
  void (*fp8_round_columns)(const float* x, int64_t stride, const int32_t* rows, int64_t m,
                            int64_t n, uint16_t* numbers, float* scales) noexcept;
  void (*fp8_round_blocks)(const float* x, int64_t stride, const int32_t* rows, int64_t m,
                           int64_t n, uint16_t* numbers, float* scales) noexcept;
  void (*fp8_decode_row)(const uint8_t* codes, const float* scales, int64_t n, float* y) noexcept;
  // E5M6 in tiles of 1 x 128 with power-of-two scales (sec. 3.3.3), packed: a tile of w numbers
  // takes w + ceil(w / 2) bytes.
  void (*e5m6_encode_row)(const float* x, int64_t n, uint8_t* codes, float* scales) noexcept;
  void (*e5m6_decode_row)(const uint8_t* codes, const float* scales, int64_t n, float* y) noexcept;

  // ---- norms of a row (norm.inl); y may be x
  float (*rmsnorm_row)(const float* x, const float* gain, float eps, float* y,
                       int64_t n) noexcept;  // returns 1 / root mean square
  void (*rmsnorm_backward_row)(const float* dy, const float* x, const float* gain, float inv_rms,
                               float* dx, float* dgain, int64_t n) noexcept;
  // stats: mean, 1 / standard deviation.
  void (*layernorm_row)(const float* x, const float* gain, const float* bias, float eps, float* y,
                        float* stats, int64_t n) noexcept;
  void (*layernorm_backward_row)(const float* dy, const float* x, const float* gain,
                                 const float* stats, float* dx, float* dgain, float* dbias,
                                 int64_t n) noexcept;

  // ---- activations of a row (activation.inl); y may be an input
  void (*swiglu_row)(const float* gate, const float* up, float* y, int64_t n) noexcept;
  // y = weight * swiglu, from which dL/d(swiglu) is weight * dy; returns the sum of dy * swiglu.
  float (*swiglu_backward_row)(const float* dy, float weight, const float* gate, const float* up,
                               float* y, float* dgate, float* dup, int64_t n) noexcept;
  void (*gelu_row)(const float* x, float* y, int64_t n) noexcept;
  void (*gelu_backward_row)(const float* dy, const float* x, float* dx, int64_t n) noexcept;

  // ---- optimizer (optimizer.inl); the same bits in every family. g, w, m, v: gradient, weights,
  // moments; the second keeps the moments as bits of BF16, rounded to nearest even.
  void (*adamw_row)(const AdamWRow& u, const float* g, float* w, float* m, float* v,
                    int64_t n) noexcept;
  void (*adamw_bf16_row)(const AdamWRow& u, const float* g, float* w, uint16_t* m, uint16_t* v,
                         int64_t n) noexcept;
  void (*average_row)(float share, const float* x, float* y,
                      int64_t n) noexcept;  // y += share(x-y)

  // ---- rotary embedding (rope.inl): turns `heads` heads of 2 * pairs numbers, `stride` apart, by
  // the same angles; direction 1 or -1. The same bits in every family.
  void (*rope_adjacent)(float* x, const float* cos, const float* sin, float direction,
                        int64_t pairs, int64_t heads, int64_t stride) noexcept;
  void (*rope_halves)(float* x, const float* cos, const float* sin, float direction, int64_t pairs,
                      int64_t heads, int64_t stride) noexcept;

  // ---- attention (attention.inl): kernels/attention.h says what a task is. The workspace is
  // for any of them, 64-byte aligned.
  int64_t (*attention_workspace)(int64_t qk_dim, int64_t v_dim) noexcept;  // floats
  void (*attention_part)(const AttentionPart& task, float* workspace) noexcept;
  void (*attention_few_part)(const AttentionPart& task, float* workspace) noexcept;
  void (*attention_gradient)(const AttentionGradient& task, float* workspace) noexcept;

  // ---- this machine's roofs (peak.inl): `steps` rounds of arithmetic in registers; return how
  // many operations that was. bf16 and int8: products of such operands, summed in 32 bits.
  double (*peak_fp32)(int64_t steps) noexcept;
  double (*peak_bf16)(int64_t steps) noexcept;
  double (*peak_int8)(int64_t steps) noexcept;
  // Reads n bytes at p, 64-byte aligned, as so many streams far apart: 1, 2, 4 or 8; bytes a
  // multiple of 128 * streams. Returns the exclusive or of the words.
  uint64_t (*read_memory)(const void* p, int64_t bytes, int64_t streams) noexcept;
};

// The table used by this process: the best one this CPU runs, or the one named by HADAL_ISA
// (Error{kUsage} when that is unknown or unusable here).
const Kernels& kernels();
// Whether they use the CPU's own dots of BF16, which are twice as fast as FP32's.
bool has_bf16_dots();
// Every table this CPU can run, scalar first. Tests and fuzzers compare all of them.
std::span<const Kernels* const> available_kernels();
// Names of all families built into this binary, usable or not.
std::span<const std::string_view> built_families();
// For tests: makes kernels() return `table` until destroyed. Not while other threads compute.
class ScopedKernels {
 public:
  explicit ScopedKernels(const Kernels& table);
  ~ScopedKernels();
  ScopedKernels(const ScopedKernels&) = delete;
  ScopedKernels& operator=(const ScopedKernels&) = delete;

 private:
  const Kernels* previous_;
};

extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kAvx512Bf16Kernels;

}  // namespace hadal
