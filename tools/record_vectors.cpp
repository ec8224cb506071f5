// Prints what each operation of the real AVX-512 Vec gives for the operands of vec_probes.h: the
// file src/kernels/testdata/vec_avx512.txt, against which the emulated Vec is tested. Needs a CPU
// with AVX-512 BF16; tools/record_vectors.sh builds and runs it.
#include <cstdio>
#include <cstring>

#include "kernels/vec.h"
#include "kernels/vec_probes.h"

int main() {
  for_each_probe([](const char* name, auto run) {
    for (int i = 0; i < kProbeVectors; ++i) {
      Probe probe(static_cast<uint64_t>(i));
      run(probe);
      std::printf("%s", name);
      for (float x : probe.out) {
        uint32_t bits;
        std::memcpy(&bits, &x, sizeof bits);
        std::printf(" %08x", bits);
      }
      std::printf("\n");
    }
  });
}
