// Every kernel, compiled once per CPU family (cmake/HadalKernels.cmake gives the names and flags).
// Only kernel headers may be included here: an inline function from elsewhere, compiled with
// AVX-512, could become the copy the linker keeps for everybody.
#include "kernels/kernels.h"
#include "kernels/vec.h"

// clang-format off: bodies may build on earlier ones.
#include "kernels/gemm.inl"
#include "kernels/gemv.inl"
// clang-format on

namespace hadal {

extern const Kernels HADAL_FAMILY_TABLE;
constinit const Kernels HADAL_FAMILY_TABLE{
    .family = HADAL_FAMILY_NAME,

    .gemm_workspace = gemm_workspace,
    .gemm = gemm,
    .gemv = gemv,
};

}  // namespace hadal
