// The C interface of the kernel. No C++ or Python type crosses it, so one build serves every interpreter.
//
// A program is a circuit together with observables, compiled by circuits/engine/program.py into one array
// of integers and one of reals. It is immutable: any number of threads may run it at once.
#ifndef QRL_INTERFACE_H
#define QRL_INTERFACE_H

#include <stdint.h>

#define QRL_API extern "C" __attribute__((visibility("default")))
#define QRL_ABI 1

enum QrlStatus { QRL_OK = 0, QRL_NOT_FINITE = 1, QRL_NO_MEMORY = 2, QRL_MALFORMED = 3 };
enum QrlEngineKind { QRL_LANE = 0, QRL_AMPLITUDE = 1 };

QRL_API int qrl_abi_version(void);

// Instruction sets of this build, by index; `best` is the widest one that this processor runs.
QRL_API int qrl_isa_count(void);
QRL_API const char* qrl_isa_name(int isa);
QRL_API int qrl_isa_supported(int isa);
QRL_API int qrl_isa_best(void);

// Measured floating-point operations a second of independent fused multiply-adds on one thread.
QRL_API double qrl_fma_peak(int isa, int is_double, double seconds);

// NULL where the arrays are malformed or memory is short. Arrays are copied.
QRL_API void* qrl_program_new(int isa, int is_double, const int64_t* ints, int64_t n_ints, const double* reals,
                              int64_t n_reals);
QRL_API void qrl_program_free(void* program);

// Samples that the registers of the chosen instruction set hold, the width of the lane engine.
QRL_API int qrl_lanes(void* program);

// Bytes that `saved` must have, 64-byte aligned, for `forward` to spare `backward` the forward pass.
QRL_API int64_t qrl_saved_bytes(void* program, int engine, int64_t samples, int per_sample);

// Arrays are row-major and of the program's precision. theta: (n_parameters,) with theta_stride 0, or
// (samples, n_parameters) with theta_stride n_parameters; x: (samples, n_features); values: (samples,
// n_observables). `saved` may be NULL.
QRL_API int qrl_forward(void* program, int engine, int threads, int64_t samples, const void* theta,
                        int64_t theta_stride, const void* x, void* values, void* saved);

// upstream: (samples, n_observables); dtheta like theta, or NULL; dx like x, or NULL. Without `saved` the
// forward pass runs first.
QRL_API int qrl_backward(void* program, int engine, int threads, int64_t samples, const void* theta,
                         int64_t theta_stride, const void* x, const void* saved, const void* upstream,
                         void* dtheta, void* dx);

// Means and standard errors from `shots` draws a sample and group of commuting words; each (samples,
// n_observables). The draws depend on seed, sample and group alone.
QRL_API int qrl_sample(void* program, int engine, int threads, int64_t samples, const void* theta,
                       int64_t theta_stride, const void* x, int64_t shots, uint64_t seed, void* means,
                       void* errors);

#endif
