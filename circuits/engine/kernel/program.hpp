// A compiled circuit as plain arrays, shared by all instruction sets.
//
// No container of the C++ library may appear here or in engine.hpp: their inline functions would be emitted
// once for each instruction set under one name, and the linker could keep the one that this processor lacks.
#ifndef QRL_PROGRAM_HPP
#define QRL_PROGRAM_HPP

#include <stdint.h>

namespace qrl {

// A rotation exp(-i angle P / 2) of one qubit about axis 0 (X), 1 (Y) or 2 (Z).
struct Rotation {
  int32_t angle, axis;
};

// All gates of one qubit in one layer: rotations in time order, then a Clifford as a quaternion (w, x, y, z)
// that stands for w - i (x X + y Y + z Z).
struct Slot {
  int32_t qubit, first, count, plain;  // plain: the Clifford is the identity
  double clifford[4];
};

// One summand of an angle: coefficient * squash(parameter * product of features).
struct Term {
  int32_t parameter, squash, first, count;  // parameter -1: none; squash 0 none, 1 tanh, 2 arctan
  double coefficient;
};

struct Angle {
  int32_t first, count, has_features, has_parameters;
  double constant;
};

// A fixed gate on two qubits; of the codes, CZ alone is diagonal.
enum FixedGate { CZ = 0, CX = 1, CY = 2, SWAP = 3 };
struct Fixed {
  int32_t code, a, b;
};

enum OpKind { LAYER = 0, SIGNS = 1, TABLE = 2, PAULI = 3 };
struct Op {
  int32_t kind, first, count;  // slots of a layer, gates of signs or a table
  int32_t angle;               // of a Pauli rotation, whose word has the masks x (X and Y) and z (Y and Z)
  uint32_t x, z;
  int32_t pauli;  // number of the Pauli rotation
};

// A Pauli word with masks x (X and Y) and z (Y and Z).
struct Word {
  uint32_t x, z;
};

struct Entry {
  int32_t observable, word;
  double coefficient;
};

// Entries whose words are measured together: the basis of each qubit (0 Z or none, 1 X, 2 Y).
struct Group {
  int32_t first, count;
  const int32_t* basis;
};

struct Program {
  int32_t n_qubits, n_parameters, n_features, n_angles, n_ops, n_slots, n_paulis, n_words, n_entries;
  int32_t n_observables, n_groups, has_tables, trailing_signs;
  const Angle* angles;
  const Term* terms;
  const int32_t* features;
  const Op* ops;
  const Slot* slots;
  const Rotation* rotations;
  const Fixed* fixed;
  const Word* words;
  const Entry* entries;
  const Group* groups;
  const int32_t* group_entries;
  const double* initial;  // (2 ** n_qubits, 2), or NULL for |0...0>
};

struct Request {
  int64_t samples, theta_stride, shots;
  const void *theta, *x, *upstream;
  void *values, *errors, *saved, *dtheta, *dx;
  uint64_t seed;
  int engine, threads;
};

// Spin systems in a path integral, and how they are annealed and read; kernel/interface.h has the meanings.
struct Anneal {
  int64_t systems, reads, n_edges, steps, sweeps_a_step, sweeps;
  int32_t n_spins, slices, update, threads;
  const int32_t* edges;  // (n_edges, 2)
  const int32_t *first, *neighbours, *neighbour_edges;  // of spin h: first[h] to first[h + 1], exclusive
  const double *couplings, *biases, *fields, *scales;
  double beta;
  uint64_t seed;
  int32_t *z, *zz;
  double* weights;
};

// Runs body(context, first, last, worker) over 0 .. count - 1, split among threads.
typedef void (*Body)(void* context, int64_t first, int64_t last, int worker);
void parallel(int threads, int64_t count, Body body, void* context);

// Scratch memory of the calling thread that stays for its next call; NULL where memory is short.
void* scratch(int64_t bytes);

// What an instruction set offers.
struct Engine {
  const char* name;
  int (*supported)();
  void* (*prepare)(const Program* program, int is_double);
  void (*release)(void* plan, int is_double);
  int (*lanes)(int is_double);
  int64_t (*saved_bytes)(const void* plan, int is_double, int engine, int64_t samples, int per_sample);
  int (*forward)(const void* plan, int is_double, const Request* request);
  int (*backward)(const void* plan, int is_double, const Request* request);
  int (*sample)(const void* plan, int is_double, const Request* request);
  int (*anneal)(const Anneal* request);
  double (*fma_peak)(int is_double, double seconds);
};

}  // namespace qrl

#endif
