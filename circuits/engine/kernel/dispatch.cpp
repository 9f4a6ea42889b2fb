// The C interface: reads programs, chooses the instruction set, runs threads.
#include "interface.h"

#include <cstdlib>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "program.hpp"

extern const qrl::Engine qrl_engine_baseline;
#ifdef QRL_HAVE_AVX2
extern const qrl::Engine qrl_engine_avx2;
#endif
#ifdef QRL_HAVE_AVX512
extern const qrl::Engine qrl_engine_avx512;
#endif

namespace qrl {

static const Engine* const ENGINES[] = {
    &qrl_engine_baseline,
#ifdef QRL_HAVE_AVX2
    &qrl_engine_avx2,
#endif
#ifdef QRL_HAVE_AVX512
    &qrl_engine_avx512,
#endif
};
static const int N_ENGINES = sizeof(ENGINES) / sizeof(ENGINES[0]);

// Threads live for one call: a call that uses several lasts long enough to pay for them, and nothing is
// left behind for a fork to trip over.
void parallel(int threads, int64_t count, Body body, void* context) {
  if (threads > count) threads = (int)count;
  if (threads <= 1) {
    if (count) body(context, 0, count, 0);
    return;
  }
  std::vector<std::thread> others;
  int64_t done = count;  // from here on the calling thread has to work
  try {
    for (int t = threads - 1; t > 0; t--) {
      const int64_t first = count * t / threads;
      others.emplace_back(body, context, first, done, t);
      done = first;
    }
  } catch (const std::system_error&) {  // no more threads to be had
  }
  body(context, 0, done, 0);
  for (auto& thread : others) thread.join();
}

// Beyond this, scratch memory is given back after the call, so that one large circuit does not hold it for good.
static const int64_t KEPT_SCRATCH = int64_t(1) << 26;

namespace {

struct Memory {
  void* at = nullptr;
  int64_t size = 0;

  void give_back() {
    std::free(at);
    at = nullptr;
    size = 0;
  }
  ~Memory() { give_back(); }
};

thread_local Memory memory;

int trimmed(int status) {
  if (memory.size > KEPT_SCRATCH) memory.give_back();
  return status;
}

}  // namespace

void* scratch(int64_t bytes) {
  if (bytes > memory.size) {
    memory.give_back();
    const int64_t size = (bytes + 4095) / 4096 * 4096;
    memory.at = std::aligned_alloc(4096, (size_t)size);
    if (memory.at) memory.size = size;
  }
  return memory.at;
}

namespace {

struct Malformed {};

// Reads numbers in turn and refuses to run past the end or to take one that is out of range.
struct Reader {
  const int64_t* ints;
  const double* reals;
  int64_t n_ints, n_reals;
  int64_t i = 0, r = 0;

  int integer(int64_t low, int64_t high) {
    if (i >= n_ints || ints[i] < low || ints[i] > high) throw Malformed();
    return (int)ints[i++];
  }
  uint32_t mask(int n_qubits) {
    if (i >= n_ints || ints[i] < 0 || ints[i] >= int64_t(1) << n_qubits) throw Malformed();
    return (uint32_t)ints[i++];
  }
  double real() {
    if (r >= n_reals) throw Malformed();
    return reals[r++];
  }
};

struct Stored {
  Program program{};
  std::vector<Angle> angles;
  std::vector<Term> terms;
  std::vector<int32_t> features, bases, group_entries;
  std::vector<Op> ops;
  std::vector<Slot> slots;
  std::vector<Rotation> rotations;
  std::vector<Fixed> fixed;
  std::vector<Word> words;
  std::vector<Entry> entries;
  std::vector<Group> groups;
  std::vector<double> initial;
  const Engine* engine = nullptr;
  void* plan = nullptr;
  int is_double = 0;

  void read(Reader& in);
  void link();
};

const int MANY = 1 << 28;

void Stored::read(Reader& in) {
  Program& p = program;
  const int n = p.n_qubits = in.integer(1, 30);
  p.n_parameters = in.integer(0, MANY);
  p.n_features = in.integer(0, MANY);
  const int n_angles = p.n_angles = in.integer(0, MANY);
  const int n_ops = p.n_ops = in.integer(0, MANY);
  const int n_words = p.n_words = in.integer(0, MANY);
  const int n_entries = p.n_entries = in.integer(0, MANY);
  p.n_observables = in.integer(0, MANY);
  p.n_groups = in.integer(0, MANY);
  const bool has_initial = in.integer(0, 1);
  for (int a = 0; a < n_angles; a++) {
    Angle angle{};
    angle.constant = in.real();
    angle.first = (int32_t)terms.size();
    angle.count = in.integer(0, MANY);
    for (int t = 0; t < angle.count; t++) {
      Term term{};
      term.parameter = in.integer(-1, p.n_parameters - 1);
      term.squash = in.integer(0, 2);
      term.first = (int32_t)features.size();
      term.count = in.integer(0, MANY);
      term.coefficient = in.real();
      for (int f = 0; f < term.count; f++) features.push_back(in.integer(0, p.n_features - 1));
      angle.has_parameters |= term.parameter >= 0;
      angle.has_features |= term.count > 0;
      terms.push_back(term);
    }
    angles.push_back(angle);
  }
  for (int o = 0; o < n_ops; o++) {
    Op op{};
    op.kind = in.integer(LAYER, PAULI);
    if (op.kind == LAYER) {
      op.first = (int32_t)slots.size();
      op.count = in.integer(1, n);
      for (int s = 0; s < op.count; s++) {
        Slot slot{};
        slot.qubit = in.integer(s ? slots.back().qubit + 1 : 0, n - 1);
        slot.first = (int32_t)rotations.size();
        slot.count = in.integer(0, MANY);
        for (int r = 0; r < slot.count; r++) {
          const int angle = in.integer(0, n_angles - 1);
          rotations.push_back({angle, in.integer(0, 2)});
        }
        for (double& part : slot.clifford) part = in.real();
        slot.plain = slot.clifford[0] == 1.0;
        slots.push_back(slot);
      }
    } else if (op.kind == PAULI) {
      op.angle = in.integer(0, n_angles - 1);
      op.x = in.mask(n);
      op.z = in.mask(n);
      op.pauli = p.n_paulis++;
    } else {
      op.first = (int32_t)fixed.size();
      op.count = in.integer(1, MANY);
      for (int g = 0; g < op.count; g++) {
        const int code = in.integer(CZ, op.kind == SIGNS ? CZ : SWAP);
        const int a = in.integer(0, n - 1);
        fixed.push_back({code, a, in.integer(0, n - 1)});
      }
      p.has_tables |= op.kind == TABLE;
    }
    ops.push_back(op);
  }
  for (int w = 0; w < n_words; w++) {
    const uint32_t x = in.mask(n);
    words.push_back({x, in.mask(n)});
  }
  for (int e = 0; e < n_entries; e++) {
    const int observable = in.integer(0, p.n_observables - 1);
    const int word = in.integer(0, n_words - 1);
    entries.push_back({observable, word, in.real()});
  }
  for (int g = 0; g < p.n_groups; g++) {
    Group group{};
    for (int q = 0; q < n; q++) bases.push_back(in.integer(0, 2));
    group.first = (int32_t)group_entries.size();
    group.count = in.integer(1, MANY);
    for (int e = 0; e < group.count; e++) group_entries.push_back(in.integer(0, n_entries - 1));
    groups.push_back(group);
  }
  if (has_initial)
    for (int64_t i = 0; i < int64_t(2) << n; i++) initial.push_back(in.real());
  if (in.i != in.n_ints || in.r != in.n_reals) throw Malformed();
}

void Stored::link() {
  Program& p = program;
  p.n_slots = (int32_t)slots.size();
  p.angles = angles.data(), p.terms = terms.data(), p.features = features.data(), p.ops = ops.data();
  p.slots = slots.data(), p.rotations = rotations.data(), p.fixed = fixed.data(), p.words = words.data();
  p.entries = entries.data(), p.group_entries = group_entries.data();
  for (int g = 0; g < p.n_groups; g++) groups[g].basis = bases.data() + g * p.n_qubits;
  p.groups = groups.data();
  p.initial = initial.empty() ? nullptr : initial.data();
}

}  // namespace
}  // namespace qrl

using namespace qrl;

int qrl_abi_version(void) { return QRL_ABI; }

int qrl_isa_count(void) { return N_ENGINES; }

const char* qrl_isa_name(int isa) { return isa >= 0 && isa < N_ENGINES ? ENGINES[isa]->name : ""; }

int qrl_isa_supported(int isa) { return isa >= 0 && isa < N_ENGINES && ENGINES[isa]->supported(); }

int qrl_isa_best(void) {
  int best = 0;
  for (int i = 0; i < N_ENGINES; i++)
    if (ENGINES[i]->supported()) best = i;
  return best;
}

double qrl_fma_peak(int isa, int is_double, double seconds) {
  return qrl_isa_supported(isa) ? ENGINES[isa]->fma_peak(is_double, seconds) : 0.0;
}

void* qrl_program_new(int isa, int is_double, const int64_t* ints, int64_t n_ints, const double* reals,
                      int64_t n_reals) {
  if (!qrl_isa_supported(isa)) return nullptr;
  Stored* stored = nullptr;
  try {
    stored = new Stored();
    Reader reader{ints, reals, n_ints, n_reals};
    stored->read(reader);
    stored->link();
    stored->engine = ENGINES[isa];
    stored->is_double = is_double;
    stored->plan = stored->engine->prepare(&stored->program, is_double);
    return stored;
  } catch (const Malformed&) {
  } catch (const std::bad_alloc&) {
  } catch (int) {  // QRL_NO_MEMORY
  }
  delete stored;
  return nullptr;
}

void qrl_program_free(void* program) {
  Stored* stored = (Stored*)program;
  if (!stored) return;
  stored->engine->release(stored->plan, stored->is_double);
  delete stored;
}

int qrl_lanes(void* program) {
  const Stored& s = *(const Stored*)program;
  return s.engine->lanes(s.is_double);
}

// The amplitude engine needs a qubit for each bit of a lane's index.
static int usable(const Stored& s, int engine) {
  return engine == QRL_AMPLITUDE && int64_t(1) << s.program.n_qubits >= s.engine->lanes(s.is_double) ? QRL_AMPLITUDE
                                                                                                   : QRL_LANE;
}

int64_t qrl_saved_bytes(void* program, int engine, int64_t samples, int per_sample) {
  const Stored& s = *(const Stored*)program;
  return s.engine->saved_bytes(s.plan, s.is_double, usable(s, engine), samples, per_sample);
}

int qrl_forward(void* program, int engine, int threads, int64_t samples, const void* theta, int64_t theta_stride,
                const void* x, void* values, void* saved) {
  const Stored& s = *(const Stored*)program;
  Request request{};
  request.samples = samples, request.theta = theta, request.theta_stride = theta_stride, request.x = x;
  request.values = values, request.saved = saved;
  request.engine = usable(s, engine), request.threads = threads;
  return trimmed(s.engine->forward(s.plan, s.is_double, &request));
}

int qrl_backward(void* program, int engine, int threads, int64_t samples, const void* theta, int64_t theta_stride,
                 const void* x, const void* saved, const void* upstream, void* dtheta, void* dx) {
  const Stored& s = *(const Stored*)program;
  Request request{};
  request.samples = samples, request.theta = theta, request.theta_stride = theta_stride, request.x = x;
  request.saved = (void*)saved, request.upstream = upstream, request.dtheta = dtheta, request.dx = dx;
  request.engine = usable(s, engine), request.threads = threads;
  return trimmed(s.engine->backward(s.plan, s.is_double, &request));
}

int qrl_sample(void* program, int engine, int threads, int64_t samples, const void* theta, int64_t theta_stride,
               const void* x, int64_t shots, uint64_t seed, void* means, void* errors) {
  const Stored& s = *(const Stored*)program;
  Request request{};
  request.samples = samples, request.theta = theta, request.theta_stride = theta_stride, request.x = x;
  request.values = means, request.errors = errors, request.shots = shots, request.seed = seed;
  request.engine = usable(s, engine), request.threads = threads;
  return trimmed(s.engine->sample(s.plan, s.is_double, &request));
}

int qrl_anneal(int isa, int update, int threads, int64_t systems, int64_t reads, int n_spins, int64_t n_edges,
               const int32_t* edges, const double* couplings, const double* biases, double beta, int slices,
               int64_t steps, const double* fields, const double* scales, int64_t sweeps_a_step, int64_t sweeps,
               uint64_t seed, int32_t* z, int32_t* zz, double* weights) {
  if (!qrl_isa_supported(isa) || update < QRL_WORLDLINE || update > QRL_SPIN || systems < 0 || reads < 1 ||
      n_spins < 1 || n_edges < 0 || n_edges > MANY || slices < 1 || steps < 1 || sweeps_a_step < 0 || sweeps < 0)
    return QRL_MALFORMED;
  // Sums over slices and sweeps are counted in 32 bits, over slices alone in a float.
  if (slices > 1 << 24 || sweeps > INT32_MAX / slices) return QRL_MALFORMED;
  Anneal request{};
  request.systems = systems, request.reads = reads, request.n_spins = n_spins, request.n_edges = n_edges;
  request.slices = slices, request.update = update, request.threads = threads;
  request.edges = edges, request.couplings = couplings, request.biases = biases, request.beta = beta;
  request.steps = steps, request.fields = fields, request.scales = scales;
  request.sweeps_a_step = sweeps_a_step, request.sweeps = sweeps, request.seed = seed;
  request.z = z, request.zz = zz, request.weights = weights;
  try {
    std::vector<int32_t> first((size_t)n_spins + 1), neighbours((size_t)(2 * n_edges)), through((size_t)(2 * n_edges));
    for (int64_t i = 0; i < 2 * n_edges; i++) {
      if (edges[i] < 0 || edges[i] >= n_spins || edges[i] == edges[i ^ 1]) return QRL_MALFORMED;
      first[(size_t)edges[i] + 1]++;
    }
    for (size_t h = 0; h < (size_t)n_spins; h++) first[h + 1] += first[h];
    std::vector<int32_t> next(first);
    for (int64_t i = 0; i < 2 * n_edges; i++) {
      const size_t place = (size_t)next[(size_t)edges[i]]++;
      neighbours[place] = edges[i ^ 1], through[place] = (int32_t)(i / 2);
    }
    request.first = first.data(), request.neighbours = neighbours.data(), request.neighbour_edges = through.data();
    return trimmed(ENGINES[isa]->anneal(&request));
  } catch (const std::bad_alloc&) {
    return QRL_NO_MEMORY;
  }
}
