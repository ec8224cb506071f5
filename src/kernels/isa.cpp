// Every kernel, compiled once per CPU family (cmake/HadalKernels.cmake gives the names and flags).
// Only kernel headers may be included here: an inline function from elsewhere, compiled with
// AVX-512, could become the copy the linker keeps for everybody.
#include "kernels/attention.h"
#include "kernels/e4m3.h"
#include "kernels/ints.h"
#include "kernels/kernels.h"
#include "kernels/panels.h"
#include "kernels/vec.h"

// Bodies build on earlier ones, so their order stays.
// clang-format off
#include "kernels/gemm_pack.inl"
#include "kernels/gemm_pack_codes.inl"
#include "kernels/gemm.inl"
#include "kernels/gemm_few.inl"
#include "kernels/fp8_codec.inl"
#include "kernels/gemm_fp8.inl"
#include "kernels/gemv.inl"
#include "kernels/fp8_product.inl"
#include "kernels/panel.inl"
#include "kernels/row.inl"
#include "kernels/activation.inl"
#include "kernels/norm.inl"
#include "kernels/optimizer.inl"
#include "kernels/rope.inl"
#include "kernels/attention_tile.inl"
#include "kernels/attention.inl"
#include "kernels/attention_few.inl"
#include "kernels/attention_gradient.inl"
#include "kernels/peak.inl"
// clang-format on

namespace hadal {

extern const Kernels HADAL_FAMILY_TABLE;
constinit const Kernels HADAL_FAMILY_TABLE{
    .family = HADAL_FAMILY_NAME,

    .gemm_workspace = any_gemm_workspace,
    .gemm = any_gemm,
    .gemv = gemv,
    .gemv_across = gemv_across,
    .fp8_product = fp8::product,

    .code_row = panel::code_row,
    .panel_product = panel::product,

    .dot = dot,
    .row_max = row_max,
    .exp_row = exp_row,
    .sigmoid_row = sigmoid_row,
    .scale_row = scale_row,
    .add_row = add_row,
    .add_scaled_row = add_scaled_row,
    .to_bf16_row = to_bf16_row,
    .from_bf16_row = from_bf16_row,

    .fp8_encode_row = fp8::encode_row,
    .fp8_round_row = fp8::round_row,
    .fp8_round_columns = fp8::round_columns,
    .fp8_round_blocks = fp8::round_blocks,
    .fp8_decode_row = fp8::decode_row,
    .e5m6_encode_row = fp8::encode_e5m6_row,
    .e5m6_decode_row = fp8::decode_e5m6_row,

    .rmsnorm_row = rmsnorm_row,
    .rmsnorm_backward_row = rmsnorm_backward_row,
    .layernorm_row = layernorm_row,
    .layernorm_backward_row = layernorm_backward_row,

    .swiglu_row = swiglu_row,
    .swiglu_backward_row = swiglu_backward_row,
    .gelu_row = gelu_row,
    .gelu_backward_row = gelu_backward_row,

    .adamw_row = adamw_row,
    .adamw_bf16_row = adamw_bf16_row,
    .average_row = average_row,

    .rope_adjacent = rope_adjacent,
    .rope_halves = rope_halves,

    .attention_workspace = flash::attention_workspace,
    .attention_part = flash::attention_part,
    .attention_few_part = flash::attention_few_part,
    .attention_gradient = flash::attention_gradient,

    .peak_fp32 = peak_fp32,
    .peak_bf16 = peak_bf16,
    .peak_int8 = peak_int8,
    .read_memory = read_memory,
};

}  // namespace hadal
