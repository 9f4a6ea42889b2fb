// The kernel for one instruction set. This file is compiled once for each of them, with other flags and
// QRL_ISA set to the name; the vectors are as wide as the registers.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <type_traits>

#include "interface.h"
#include "program.hpp"

#if defined(__AVX512F__)
#define QRL_BYTES 64
#elif defined(__AVX2__)
#define QRL_BYTES 32
#else
#define QRL_BYTES 16
#endif

#include "vector.hpp"

#include "passes.hpp"

#include "plan.hpp"

#include "engine.hpp"

#include "replicas.hpp"

namespace {

int supported() {
#if defined(__x86_64__) && defined(__AVX512F__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
#elif defined(__x86_64__) && defined(__AVX2__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return 1;
#endif
}

template <class T>
Plan<T>* make_plan(const Program* p) {
  typedef typename Lanes<T>::V V;
  Plan<T>* plan = (Plan<T>*)allocate(sizeof(Plan<T>));
  memset((void*)plan, 0, sizeof(Plan<T>));
  plan->program = p;
  plan->layouts[QRL_LANE] = make_layout<V>(*p, 0);
  if (p->n_qubits >= Lanes<T>::LOG) plan->layouts[QRL_AMPLITUDE] = make_layout<V>(*p, Lanes<T>::LOG);
  plan->modes[0] = make_mode(*p, false);
  plan->modes[1] = make_mode(*p, true);
  plan->product_start = starts_as_product(*p);
  plan->first_differentiable = p->n_ops;
  for (int o = p->n_ops - 1; o >= 0; o--) {
    const Op& op = p->ops[o];
    bool any = op.kind == PAULI && differentiable(*p, op.angle);
    if (op.kind == LAYER) any = plan->layouts[QRL_LANE].layers[o].moments;
    if (any) plan->first_differentiable = o;
    Permutation table{};
    plan->tables.add(table);
  }
  for (int o = 0; o < p->n_ops; o++)
    if (p->ops[o].kind == TABLE) {
      Permutation& table = plan->tables[o];
      table.source = (int32_t*)allocate((int64_t)sizeof(int32_t) << p->n_qubits);
      table.power = (uint8_t*)allocate(int64_t(1) << p->n_qubits);
      permute(*p, p->ops[o], table.source, table.power);
    }
  return plan;
}

template <class T>
void release_plan(Plan<T>* plan) {
  for (int i = 0; i < 2; i++) {
    release_layout(plan->layouts[i]);
    release_mode(plan->modes[i]);
  }
  for (int64_t o = 0; o < plan->tables.size; o++) {
    free(plan->tables[o].source);
    free(plan->tables[o].power);
  }
  plan->tables.release();
  free(plan);
}

void* prepare(const Program* p, int is_double) {
  return is_double ? (void*)make_plan<double>(p) : (void*)make_plan<float>(p);
}

void release(void* plan, int is_double) {
  is_double ? release_plan((Plan<double>*)plan) : release_plan((Plan<float>*)plan);
}

int lanes(int is_double) { return is_double ? Lanes<double>::W : Lanes<float>::W; }

template <class T>
int64_t saved_bytes_of(const void* plan, int engine, int64_t samples, int per_sample) {
  Request request{};
  request.samples = samples;
  request.theta_stride = per_sample;
  const Plan<T>& p = *(const Plan<T>*)plan;
  if (engine == QRL_LANE) {
    Machine<T, true> m(p, request);
    return m.blocks * m.saved_stride() * (int64_t)sizeof(T);
  }
  Machine<T, false> m(p, request);
  return m.blocks * m.saved_stride() * (int64_t)sizeof(T);
}

int64_t saved_bytes(const void* plan, int is_double, int engine, int64_t samples, int per_sample) {
  return is_double ? saved_bytes_of<double>(plan, engine, samples, per_sample)
                   : saved_bytes_of<float>(plan, engine, samples, per_sample);
}

enum Call { FORWARD, BACKWARD, SAMPLE };

template <class T, bool LANE>
int call_machine(const void* plan, const Request* request, Call call) {
  Machine<T, LANE> m(*(const Plan<T>*)plan, *request);
  return call == FORWARD ? m.forward() : call == BACKWARD ? m.backward() : m.sample();
}

int call_engine(const void* plan, int is_double, const Request* r, Call call) {
  if (r->engine == QRL_LANE)
    return is_double ? call_machine<double, true>(plan, r, call) : call_machine<float, true>(plan, r, call);
  return is_double ? call_machine<double, false>(plan, r, call) : call_machine<float, false>(plan, r, call);
}

int forward(const void* plan, int is_double, const Request* r) { return call_engine(plan, is_double, r, FORWARD); }
int backward(const void* plan, int is_double, const Request* r) { return call_engine(plan, is_double, r, BACKWARD); }
int sample(const void* plan, int is_double, const Request* r) { return call_engine(plan, is_double, r, SAMPLE); }

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

volatile double sink;

template <class T>
double peak(double seconds) {
  typedef typename Lanes<T>::V V;
  constexpr int CHAINS = 10;  // more than latency times units, fewer than registers
  V a[CHAINS];
  for (int i = 0; i < CHAINS; i++) a[i] = all<V>(T(i));
  const V m = all<V>(T(1) - T(1) / T(64)), c = all<V>(T(1) / T(64));
  const double start = now();
  int64_t rounds = 0;
  double elapsed = 0;
  while (elapsed < seconds) {
    for (int r = 0; r < 10000; r++)
#pragma GCC unroll 10
      for (int i = 0; i < CHAINS; i++) a[i] = a[i] * m + c;
    rounds += 10000;
    elapsed = now() - start;
  }
  V total{};
  for (int i = 0; i < CHAINS; i++) total += a[i];
  sink = sum(total);
  return (double)rounds * CHAINS * 2 * Of<V>::W / elapsed;
}

double fma_peak(int is_double, double seconds) { return is_double ? peak<double>(seconds) : peak<float>(seconds); }

}  // namespace

#define QRL_JOIN(a, b) a##b
#define QRL_TABLE(name) QRL_JOIN(qrl_engine_, name)
#define QRL_STRING(name) #name
#define QRL_NAME(name) QRL_STRING(name)

extern const qrl::Engine QRL_TABLE(QRL_ISA);
const qrl::Engine QRL_TABLE(QRL_ISA) = {QRL_NAME(QRL_ISA), supported, prepare,  release, lanes,   saved_bytes,
                                        forward,           backward,  sample,   anneal,  fma_peak};
