// The C interface with nothing behind it: enough to test the build and the loader within seconds.
#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

int level_baseline();
int level_avx2();
int level_avx512();

namespace {
const char *const names[] = {"baseline",
#ifdef QRL_HAVE_AVX2
                             "avx2",
#endif
#ifdef QRL_HAVE_AVX512
                             "avx512",
#endif
};
int (*const levels[])() = {level_baseline,
#ifdef QRL_HAVE_AVX2
                           level_avx2,
#endif
#ifdef QRL_HAVE_AVX512
                           level_avx512,
#endif
};
}  // namespace

EXPORT int qrl_abi_version() { return 2; }
EXPORT int qrl_isa_count() { return sizeof names / sizeof names[0]; }
EXPORT const char *qrl_isa_name(int isa) { return names[isa]; }
EXPORT int qrl_isa_supported(int isa) { return isa < 2; }
EXPORT int qrl_isa_best() { return 0; }

EXPORT void *qrl_program_new(int, int, const int64_t *, int64_t, const double *, int64_t) { return nullptr; }
EXPORT void qrl_program_free(void *) {}
EXPORT int qrl_lanes(void *) { return 1; }
EXPORT int64_t qrl_saved_bytes(void *, int, int64_t samples, int) { return samples; }
EXPORT int qrl_forward(void *, int, int, int64_t, const void *, int64_t, const void *, void *, void *) { return 0; }
EXPORT int qrl_backward(void *, int, int, int64_t, const void *, int64_t, const void *, const void *, const void *,
                        void *, void *) {
  return 0;
}
EXPORT int qrl_sample(void *, int, int, int64_t, const void *, int64_t, const void *, int64_t, uint64_t, void *,
                      void *) {
  return 0;
}
EXPORT int qrl_anneal(int, int, int, int64_t, int64_t, int, int64_t, const int32_t *, const double *, const double *,
                      double, int, int64_t, const double *, const double *, int64_t, int64_t, uint64_t, int32_t *,
                      int32_t *, double *) {
  return 0;
}
// Here: the instruction set that the copy of the common function was compiled for which this set's code calls.
EXPORT double qrl_fma_peak(int isa, int, double) { return levels[isa](); }
