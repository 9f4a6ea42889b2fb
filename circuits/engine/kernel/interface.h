// The C interface of the kernel. No C++ or Python type crosses it, so one build serves every interpreter.
//
// A program is a circuit together with observables, compiled by circuits/engine/program.py into one array
// of integers and one of reals. It is immutable: any number of threads may run it at once.
#ifndef QRL_INTERFACE_H
#define QRL_INTERFACE_H

#include <stdint.h>

#define QRL_API extern "C" __attribute__((visibility("default")))
#define QRL_ABI 2

enum QrlStatus { QRL_OK = 0, QRL_NOT_FINITE = 1, QRL_NO_MEMORY = 2, QRL_MALFORMED = 3 };
enum QrlEngineKind { QRL_LANE = 0, QRL_AMPLITUDE = 1 };
enum QrlUpdate { QRL_WORLDLINE = 0, QRL_CLUSTER = 1, QRL_SPIN = 2 };

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

// Path-integral Monte Carlo of `systems` of spins that share couplings J, edges (n_edges, 2), and differ in biases
// b (systems, n_spins): replicas.hpp has the ensemble. A read starts as an exact draw without couplings; the steps
// follow, each with a transverse field, a scale of the couplings and its sweeps, and then `sweeps` in the last
// ensemble are measured. z (systems, reads, n_spins) and zz (systems, reads, n_edges) receive sums over slices and
// those sweeps; or NULL. weights (systems, reads), or NULL: the sum over steps of the rise of the scale times
// (beta / slices) sum J z z before the step. The draws of a read depend on seed, system and read alone.
QRL_API int qrl_anneal(int isa, int update, int threads, int64_t systems, int64_t reads, int n_spins, int64_t n_edges,
                       const int32_t* edges, const double* couplings, const double* biases, double beta, int slices,
                       int64_t steps, const double* fields, const double* scales, int64_t sweeps_a_step,
                       int64_t sweeps, uint64_t seed, int32_t* z, int32_t* zz, double* weights);

#endif
