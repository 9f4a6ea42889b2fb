// A program prepared for one precision and one instruction set: which qubits share a pass, sign and
// permutation tables, the folding tree of diagonal words, and how the angles of a slot are evaluated.

namespace {

using namespace qrl;

// Memory, or the status that says that there is none, thrown as a plain number: dispatch.cpp catches it.
inline void* allocate(int64_t bytes) {
  void* memory = aligned_alloc(64, (size_t)((bytes + 63) / 64 * 64));
  if (!memory) throw (int)QRL_NO_MEMORY;
  return memory;
}

// A growing array without the C++ library; see program.hpp for why.
template <class T>
struct List {
  T* data = nullptr;
  int64_t size = 0, room = 0;

  void add(const T& value) {
    if (size == room) {
      room = room ? 2 * room : 8;
      void* moved = allocate(room * (int64_t)sizeof(T));
      if (size) memcpy(moved, data, (size_t)size * sizeof(T));
      free(data);
      data = (T*)moved;
    }
    memcpy(&data[size++], &value, sizeof(T));
  }
  T& operator[](int64_t i) { return data[i]; }
  const T& operator[](int64_t i) const { return data[i]; }
  void release() {
    free(data);
    data = nullptr;
    size = room = 0;
  }
};

// Qubits a pass. Forward, 8 amplitudes and 3 gates fit into 32 registers, 4 and 2 into 16. Backward there are
// the image and the moments besides: measured, two qubits are faster than three with what has to be spilled.
constexpr int WIDEST = QRL_BYTES >= 64 ? 3 : 2;
constexpr int WIDEST_BACK = 2;

// Qubits from which the work that real rotations save is worth finding the phases.
constexpr int SPLIT_QUBITS = 6;

struct Pass {
  int width, bits[3], slots[3];
};

struct Layer {
  int first_pass, passes;  // on bits of the vector index
  int first_back, backs;   // the same for the backward pass
  unsigned lanes;          // qubits that are lanes, as a mask
  int lane_slots[4];
  int first_slot, slots, moments;  // moments: whether any angle can be differentiated
  int split;    // run as phases and real rotations; its last phases are left to the next layer
  int carried;  // the operation whose last phases are left to this layer, -1 for none
};

// A node of the folding tree over [at, at + 2 half): the sum goes to the lower half, the difference to the
// upper one, each only where a word below needs it.
struct Node {
  int64_t at, half;
  int sum, difference;
};

struct Leaf {
  int64_t at;
  int word;
  unsigned lanes;  // the word on the qubits that are lanes
};

struct Permutation {
  int32_t* source;
  uint8_t* power;
};

// Where amplitudes or samples lie: everything that depends on which engine runs.
template <class V>
struct Layout {
  int log_lanes;  // qubits that are lanes
  int64_t count;  // vector amplitudes
  List<Pass> passes, backs;
  List<Layer> layers;       // by operation, empty for others
  List<Signs<V>> signs;     // by operation
  List<WordPlan<V>> paulis; // by Pauli rotation
  List<WordPlan<V>> words;  // by word, used where it is not diagonal
  List<Node> nodes;
  List<Leaf> leaves;
  List<int64_t> starts;  // distinct places of leaves
  List<char> split_slots;  // by slot: whether its layer is split
};

// Between angles that differ from sample to sample, the others of a slot are multiplied out once a call.
struct Segment {
  int first, count;  // rotations with shared angles
  int lane, axis;    // the sample's own rotation before them: its number, -1 for the first segment
  int identity;      // nothing to multiply
  int sums;          // place of the three moments summed over samples, -1 where no angle is differentiated
  int inward;        // whether anything before its rotation is differentiated
};

struct SlotPlan {
  int first, count;  // segments
};

// A sample's own angle: constant + coefficient * parameter * feature where it has that form, which most have;
// feature is -1 for any other.
struct LaneAngle {
  int feature, parameter, sums;
  double constant, coefficient;
};

// Which angles are shared by all samples and which are not; one for shared and one for per-sample
// parameters.
struct Mode {
  List<int> lane_angles, shared_angles;
  List<int> number;  // by angle: place in its list
  List<char> is_lane;
  List<LaneAngle> lanes;  // by number of a lane angle
  List<Segment> segments;
  List<SlotPlan> slots;
  List<int> term_sums;   // by term: place of its sum over samples, -1 for none
  List<int> pauli_sums;  // by Pauli rotation: place of its sum, -1 for none
  int sums;
};

template <class T>
struct Plan {
  typedef typename Lanes<T>::V V;
  const Program* program;
  Layout<V> layouts[2];
  List<Permutation> tables;  // by operation, empty for others
  Mode modes[2];
  int first_differentiable;  // operation before which nothing is differentiated
  bool product_start;
};

inline bool differentiable(const Program& p, int angle) {
  return p.angles[angle].has_parameters || p.angles[angle].has_features;
}

inline Mode make_mode(const Program& p, bool per_sample) {
  Mode mode{};
  for (int a = 0; a < p.n_angles; a++) {
    const Angle& angle = p.angles[a];
    const bool lane = angle.has_features || (per_sample && angle.has_parameters);
    List<int>& list = lane ? mode.lane_angles : mode.shared_angles;
    mode.number.add((int)list.size);
    mode.is_lane.add(lane);
    list.add(a);
  }
  for (int s = 0; s < p.n_slots; s++) {
    const Slot& slot = p.slots[s];
    SlotPlan plan{(int)mode.segments.size, 0};
    Segment segment{slot.first, 0, -1, 0, 1, -1, 0};
    bool inward = false;
    for (int r = slot.first; r < slot.first + slot.count; r++) {
      const int angle = p.rotations[r].angle;
      if (mode.is_lane[angle]) {
        mode.segments.add(segment);
        inward |= segment.sums >= 0;
        segment = Segment{r + 1, 0, mode.number[angle], p.rotations[r].axis, 1, -1, inward};
        inward = true;
      } else {
        segment.count++;
        segment.identity = 0;
        if (p.angles[angle].has_parameters && segment.sums < 0) segment.sums = 3 * mode.sums++;
      }
    }
    if (!slot.plain) segment.identity = 0;
    mode.segments.add(segment);
    plan.count = (int)mode.segments.size - plan.first;
    mode.slots.add(plan);
  }
  mode.sums *= 3;
  for (int o = 0; o < p.n_ops; o++)
    if (p.ops[o].kind == PAULI) {
      const int angle = p.ops[o].angle;
      const bool summed = !mode.is_lane[angle] && p.angles[angle].has_parameters;
      mode.pauli_sums.add(summed ? mode.sums++ : -1);
    }
  for (int a = 0; a < p.n_angles; a++)
    for (int t = p.angles[a].first; t < p.angles[a].first + p.angles[a].count; t++)
      mode.term_sums.add(mode.is_lane[a] && !per_sample && p.terms[t].parameter >= 0 ? mode.sums++ : -1);
  for (int i = 0; i < mode.lane_angles.size; i++) {
    const Angle& angle = p.angles[mode.lane_angles[i]];
    const Term& term = p.terms[angle.first];
    const bool simple = angle.count == 1 && term.count == 1 && term.squash == 0;
    mode.lanes.add({simple ? p.features[term.first] : -1, simple ? term.parameter : -1,
                    simple ? mode.term_sums[angle.first] : -1, angle.constant, simple ? term.coefficient : 0});
  }
  return mode;
}

template <class V>
Signs<V> make_signs(const Program& p, const Op& op, int log_lanes, int64_t count) {
  typedef typename Of<V>::S S;
  typedef typename Of<V>::I I;
  const S bit = S(1) << (8 * sizeof(S) - 1);
  List<I> masks{};
  List<int> keys{};
  uint16_t* index = (uint16_t*)allocate(count * (int64_t)sizeof(uint16_t));
  const int width = 1 << log_lanes;
  for (int64_t v = 0; v < count; v++) {
    int key = 0;
    for (int lane = 0; lane < width; lane++) {
      const int64_t i = v * width + lane;
      int parity = 0;
      for (int g = op.first; g < op.first + op.count; g++) parity ^= (i >> p.fixed[g].a) & (i >> p.fixed[g].b) & 1;
      key |= parity << lane;
    }
    int64_t found = 0;
    while (found < keys.size && keys[found] != key) found++;
    if (found == keys.size) {
      I mask{};
      for (int lane = 0; lane < Of<V>::W; lane++) mask[lane] = (key >> (log_lanes ? lane : 0) & 1) ? bit : 0;
      masks.add(mask);
      keys.add(key);
    }
    index[v] = (uint16_t)found;
  }
  keys.release();
  return {masks.data, index};
}

inline void permute(const Program& p, const Op& op, int32_t* source, uint8_t* power) {
  for (int64_t i = 0; i < int64_t(1) << p.n_qubits; i++) {
    int64_t at = i;
    int turn = 0;
    for (int g = op.first + op.count - 1; g >= op.first; g--) {
      const Fixed& gate = p.fixed[g];
      const int a = at >> gate.a & 1, b = at >> gate.b & 1;
      if (gate.code == CZ) turn += 2 * (a & b);
      if (gate.code == CY) turn += a ? (b ? 1 : 3) : 0;
      if (gate.code == CX || gate.code == CY) at ^= int64_t(a) << gate.b;
      if (gate.code == SWAP) at ^= (int64_t(a ^ b) << gate.a) ^ (int64_t(a ^ b) << gate.b);
    }
    source[i] = (int32_t)at;
    power[i] = (uint8_t)(turn & 3);
  }
}

template <class V>
WordPlan<V> make_word(uint32_t x, uint32_t z, int log_lanes) {
  const uint32_t low = (1u << log_lanes) - 1;
  const int ys = __builtin_popcount(x & z);
  WordPlan<V> w{};
  w.high_x = x >> log_lanes, w.high_z = z >> log_lanes, w.low_x = x & low;
  w.odd = ys & 1;
  w.minus = (ys >> 1 & 1) ^ __builtin_parity(x & z);
  for (int lane = 0; lane < Of<V>::W; lane++) {
    const uint32_t at = log_lanes ? (uint32_t)lane : 0;
    w.rho[lane] = __builtin_parity(at & z & low) ? -1 : 1;
    w.partner[lane] = log_lanes ? (lane ^ (int)(x & low)) : lane;
  }
  return w;
}

template <class V>
void grow_tree(Layout<V>& layout, const Program& p, int64_t at, int64_t half, const int* words, int count) {
  if (half == 0) {
    bool known = false;
    for (int64_t s = 0; s < layout.starts.size; s++) known |= layout.starts[s] == at;
    if (!known) layout.starts.add(at);
    const unsigned low = (1u << layout.log_lanes) - 1;
    for (int w = 0; w < count; w++) layout.leaves.add({at, words[w], p.words[words[w]].z & low});
    return;
  }
  int* sums = (int*)allocate(sizeof(int) * (int64_t)(count + 1));
  int* differences = (int*)allocate(sizeof(int) * (int64_t)(count + 1));
  int n_sums = 0, n_differences = 0;
  for (int w = 0; w < count; w++) {
    if ((p.words[words[w]].z >> layout.log_lanes) & (uint32_t)half)
      differences[n_differences++] = words[w];
    else
      sums[n_sums++] = words[w];
  }
  layout.nodes.add({at, half, n_sums > 0, n_differences > 0});
  if (n_sums) grow_tree(layout, p, at, half / 2, sums, n_sums);
  if (n_differences) grow_tree(layout, p, at + half, half / 2, differences, n_differences);
  free(sums);
  free(differences);
}

// Shares n qubits out among passes and returns their number.
inline int split_passes(List<Pass>& passes, const int* bits, const int* slots, int n, int widest) {
  int made = 0;
  for (int at = 0; at < n; made++) {
    const int left = n - at;
    Pass pass{left < widest ? left : widest, {0, 0, 0}, {0, 0, 0}};
    if (left == 4 && widest == 3) pass.width = 2;  // 2 + 2 is less traffic than 3 + 1
    for (int k = 0; k < pass.width; k++, at++) pass.bits[k] = bits[at], pass.slots[k] = slots[at];
    passes.add(pass);
  }
  return made;
}

// Whether the state starts as the product state of the first layer.
inline bool starts_as_product(const Program& p) { return !p.initial && p.n_ops && p.ops[0].kind == LAYER; }

// Decides which layers run as phases and real rotations. Those that a layer ends with are left to the next layer, so
// there must be one that takes them, or nothing but probabilities behind.
template <class V>
void split_layers(Layout<V>& layout, const Program& p) {
  bool diagonal = p.n_qubits >= SPLIT_QUBITS;
  for (int w = 0; w < p.n_words; w++) diagonal &= p.words[w].x == 0;
  bool taken = diagonal;
  int next = -1;
  for (int o = p.n_ops - 1; o >= 0; o--) {
    Layer& layer = layout.layers[o];
    layer.carried = -1;
    if (p.ops[o].kind == SIGNS) continue;
    layer.split = taken && p.ops[o].kind == LAYER && layer.moments && !(o == 0 && starts_as_product(p));
    if (layer.split && next >= 0) layout.layers[next].carried = o;
    next = layer.split ? o : -1;
    taken = layer.split;
  }
}

template <class V>
Layout<V> make_layout(const Program& p, int log_lanes) {
  Layout<V> layout{};
  layout.log_lanes = log_lanes;
  layout.count = int64_t(1) << (p.n_qubits - log_lanes);
  for (int o = 0; o < p.n_ops; o++) {
    const Op& op = p.ops[o];
    Layer layer{};
    Signs<V> signs{};
    if (op.kind == LAYER) {
      layer.first_slot = op.first, layer.slots = op.count;
      int high[64], slots[64], n = 0;
      for (int s = op.first; s < op.first + op.count; s++) {
        const int qubit = p.slots[s].qubit;
        for (int r = 0; r < p.slots[s].count; r++)
          layer.moments |= differentiable(p, p.rotations[p.slots[s].first + r].angle);
        if (qubit < log_lanes)
          layer.lanes |= 1u << qubit, layer.lane_slots[qubit & 3] = s;
        else
          high[n] = qubit - log_lanes, slots[n++] = s;
      }
      layer.first_pass = (int)layout.passes.size, layer.first_back = (int)layout.backs.size;
      layer.passes = split_passes(layout.passes, high, slots, n, WIDEST);
      layer.backs = split_passes(layout.backs, high, slots, n, WIDEST_BACK);
    } else if (op.kind == SIGNS) {
      signs = make_signs<V>(p, op, log_lanes, layout.count);
    } else if (op.kind == PAULI) {
      layout.paulis.add(make_word<V>(op.x, op.z, log_lanes));
    }
    layout.layers.add(layer);
    layout.signs.add(signs);
  }
  split_layers(layout, p);
  for (int o = 0; o < p.n_ops; o++)
    if (p.ops[o].kind == LAYER)
      for (int s = 0; s < layout.layers[o].slots; s++) layout.split_slots.add((char)layout.layers[o].split);
  int* diagonal = (int*)allocate(sizeof(int) * (int64_t)(p.n_words + 1));
  int n = 0;
  for (int w = 0; w < p.n_words; w++) {
    layout.words.add(make_word<V>(p.words[w].x, p.words[w].z, log_lanes));
    if (p.words[w].x == 0) diagonal[n++] = w;
  }
  if (n) grow_tree(layout, p, 0, layout.count / 2, diagonal, n);
  free(diagonal);
  return layout;
}

template <class V>
void release_layout(Layout<V>& layout) {
  for (int64_t o = 0; o < layout.signs.size; o++) {
    free((void*)layout.signs[o].masks);
    free((void*)layout.signs[o].index);
  }
  layout.passes.release(), layout.backs.release(), layout.layers.release(), layout.signs.release(), layout.paulis.release();
  layout.words.release(), layout.nodes.release(), layout.leaves.release(), layout.starts.release();
  layout.split_slots.release();
}

inline void release_mode(Mode& mode) {
  mode.lane_angles.release(), mode.shared_angles.release(), mode.number.release(), mode.is_lane.release();
  mode.lanes.release(), mode.segments.release(), mode.slots.release(), mode.term_sums.release(), mode.pauli_sums.release();
}

}  // namespace
