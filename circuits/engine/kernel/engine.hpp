// Forward, backward and sampling for one precision and one of the two engines.
//
// Lane engine: samples lie across lanes; a block is as many samples as there are lanes, and what differs
// from sample to sample is a vector (R = V). Amplitude engine: the lowest qubits lie across lanes; a block
// is one sample and R is a scalar.
//
// The backward pass takes the gates off the final state and its image under the observables one layer after
// the other, so its memory does not grow with depth. In front of each layer's gates stand the moments
// Im <image| X, Y, Z |state> of each qubit, and all angles of a slot have their gradients from these three:
// the gradient of a rotation is its axis times the moments, seen through the rotations behind it.

namespace {

template <class T>
constexpr T* aligned(T* p) {
  return (T*)(((uintptr_t)p + 63) & ~(uintptr_t)63);
}

// Hands out 64-byte aligned pieces of one block; with a null base it only counts.
struct Carver {
  char* base;
  int64_t used = 0;

  template <class T>
  T* take(int64_t count) {
    T* piece = base ? (T*)(base + used) : nullptr;
    used += (count * (int64_t)sizeof(T) + 63) / 64 * 64;
    return piece;
  }
};

template <class T>
struct Quaternion {
  T w, x, y, z;
};

// The product p q; the matrix of q acts first.
template <class A, class B>
INLINE auto product(const Quaternion<A>& p, const Quaternion<B>& q) {
  typedef decltype(p.w * q.w) R;
  return Quaternion<R>{p.w * q.w - p.x * q.x - p.y * q.y - p.z * q.z,
                       p.w * q.x + p.x * q.w + p.y * q.z - p.z * q.y,
                       p.w * q.y + p.y * q.w + p.z * q.x - p.x * q.z,
                       p.w * q.z + p.z * q.w + p.x * q.y - p.y * q.x};
}

// The rotation with half-angle cosine c and sine s about an axis, times q.
template <class R>
INLINE Quaternion<R> turn(R c, R s, int axis, const Quaternion<R>& q) {
  if (axis == 0) return {c * q.w - s * q.x, c * q.x + s * q.w, c * q.y - s * q.z, c * q.z + s * q.y};
  if (axis == 1) return {c * q.w - s * q.y, c * q.x + s * q.z, c * q.y + s * q.w, c * q.z - s * q.x};
  return {c * q.w - s * q.z, c * q.x - s * q.y, c * q.y + s * q.x, c * q.z + s * q.w};
}

// The rotation of Bloch vectors by a unit quaternion, row-major.
template <class T>
INLINE void rotation_matrix(const Quaternion<T>& q, T* m) {
  m[0] = 1 - 2 * (q.y * q.y + q.z * q.z), m[1] = 2 * (q.x * q.y - q.w * q.z), m[2] = 2 * (q.x * q.z + q.w * q.y);
  m[3] = 2 * (q.x * q.y + q.w * q.z), m[4] = 1 - 2 * (q.x * q.x + q.z * q.z), m[5] = 2 * (q.y * q.z - q.w * q.x);
  m[6] = 2 * (q.x * q.z - q.w * q.y), m[7] = 2 * (q.y * q.z + q.w * q.x), m[8] = 1 - 2 * (q.x * q.x + q.y * q.y);
}

// What a segment comes to when the shared angles are known.
template <class T>
struct Shared {
  Quaternion<T> k;     // its own product
  Quaternion<T> a, b;  // second segment: c a + s b is the slot up to here
  T m[9];              // k on Bloch vectors
};

template <class T, bool LANE>
struct Machine {
  typedef typename Lanes<T>::V V;
  typedef typename std::conditional<LANE, V, T>::type R;
  static constexpr int W = Lanes<T>::W, LOG = Lanes<T>::LOG;
  static constexpr int64_t BLOCK = LANE ? W : 1;

  const Plan<T>& plan;
  const Program& p;
  const Layout<V>& layout;
  const Mode& mode;
  const Request& request;
  const bool per_sample;

  // Of the call.
  T *shared_angle, *shared_sine, *shared_cosine;
  Shared<T>* shared;
  double *chunk_sums, *totals;
  int64_t blocks, chunk_blocks, chunks;
  int64_t work_bytes;
  int status = QRL_OK;

  // Of a thread.
  struct Work {
    V *state, *image, *spare, *tree, *coefficients, *phases;
    R *x, *theta, *dx, *dtheta, *sums, *outputs, *words;
    R *angle, *sine, *cosine;
    Moment<V>* moments;
  };

  Machine(const Plan<T>& plan_, const Request& request_)
      : plan(plan_),
        p(*plan_.program),
        layout(plan_.layouts[LANE ? QRL_LANE : QRL_AMPLITUDE]),
        mode(plan_.modes[request_.theta_stride != 0]),
        request(request_),
        per_sample(request_.theta_stride != 0) {
    blocks = (request.samples + BLOCK - 1) / BLOCK;
    // Chunks depend on the number of samples alone, so results do not depend on the number of threads.
    chunk_blocks = LANE ? 32 : 1;
    if (blocks > 64 * chunk_blocks) chunk_blocks = (blocks + 63) / 64;
    chunks = (blocks + chunk_blocks - 1) / chunk_blocks;
  }

  // Vectors a slot has: a, b of its matrix, or cosine, sine, alpha, gamma of a split layer.
  static constexpr int GATE = 6;

  int high_bits() const { return p.n_qubits - layout.log_lanes; }
  int low_bits() const { return high_bits() / 2; }

  static int64_t padded(int64_t n) { return (n + W - 1) / W * W; }

  // Elements of a sine or cosine array over the angles of a sample.
  int64_t lane_size() const { return LANE ? mode.lane_angles.size : padded(mode.lane_angles.size); }

  int64_t state_elements() const { return 2 * layout.count * W; }

  // Of one block, in elements of T.
  int64_t saved_stride() const { return state_elements() + 2 * lane_size() * (LANE ? W : 1); }

  Work carve(Carver& c, bool backward) const {
    Work w{};
    w.state = c.take<V>(2 * layout.count);
    // The forward pass keeps probabilities where the backward pass has the image.
    w.image = c.take<V>(backward ? 2 * layout.count : layout.count);
    if (p.has_tables) w.spare = c.take<V>(2 * layout.count);
    if (backward) w.tree = c.take<V>(layout.count);
    w.coefficients = c.take<V>(GATE * p.n_slots + 2 * p.n_paulis);
    w.phases = c.take<V>(2 * ((int64_t(1) << low_bits()) + (int64_t(1) << (high_bits() - low_bits()))));
    w.x = c.take<R>(p.n_features + 1);
    w.theta = c.take<R>(per_sample ? p.n_parameters : 0);
    w.angle = c.take<R>(lane_size());
    w.sine = c.take<R>(lane_size());
    w.cosine = c.take<R>(lane_size());
    w.words = c.take<R>(p.n_words);
    w.outputs = c.take<R>(p.n_observables);
    if (backward) {
      w.dx = c.take<R>(p.n_features);
      w.dtheta = c.take<R>(per_sample ? p.n_parameters : 0);
      w.sums = c.take<R>(mode.sums);
      w.moments = c.take<Moment<V>>(p.n_qubits + 4);
    }
    return w;
  }

  bool prepare(bool backward, Work& own) {
    Carver count{nullptr};
    carve(count, backward);
    work_bytes = count.used;
    Carver sizes{nullptr};
    take_shared(sizes, backward);
    char* memory = (char*)scratch(sizes.used + work_bytes);
    if (!memory) return false;
    Carver c{memory};
    take_shared(c, backward);
    own = carve(c, backward);
    evaluate_shared(backward);
    return true;
  }

  void take_shared(Carver& c, bool backward) {
    const int64_t n = padded(mode.shared_angles.size);
    shared_angle = c.take<T>(n);
    shared_sine = c.take<T>(n);
    shared_cosine = c.take<T>(n);
    shared = c.take<Shared<T>>(mode.segments.size);
    chunk_sums = c.take<double>(backward ? chunks * mode.sums : 0);
    totals = c.take<double>(backward ? p.n_parameters : 0);
  }

  // ---- angles ---------------------------------------------------------------------------------------

  template <class Q>
  static INLINE Q squashed(int kind, Q u) {
    return kind == 0 ? u : kind == 1 ? tanh_each(u) : arctan_each(u);
  }

  void evaluate_shared(bool backward) {
    const T* theta = (const T*)request.theta;
    const int64_t n = mode.shared_angles.size;
    for (int64_t i = 0; i < n; i++) {
      const Angle& angle = p.angles[mode.shared_angles[i]];
      T value = (T)angle.constant;
      for (int t = angle.first; t < angle.first + angle.count; t++) {
        const Term& term = p.terms[t];
        value += (T)term.coefficient * squashed(term.squash, term.parameter < 0 ? T(1) : theta[term.parameter]);
      }
      shared_angle[i] = value * T(0.5);
    }
    for (int64_t i = n; i < padded(n); i++) shared_angle[i] = 0;
    sines_cosines((const V*)shared_angle, (V*)shared_sine, (V*)shared_cosine, (int)(padded(n) / W));
    for (int s = 0; s < p.n_slots; s++) {
      const Slot& slot = p.slots[s];
      const SlotPlan& sp = mode.slots[s];
      for (int g = sp.first; g < sp.first + sp.count; g++) {
        const Segment& segment = mode.segments[g];
        Shared<T>& out = shared[g];
        Quaternion<T> k{1, 0, 0, 0};
        for (int r = segment.first; r < segment.first + segment.count; r++) {
          const int i = mode.number[p.rotations[r].angle];
          k = turn(shared_cosine[i], shared_sine[i], p.rotations[r].axis, k);
        }
        if (g == sp.first + sp.count - 1 && !slot.plain) {
          const double* q = slot.clifford;
          k = product(Quaternion<T>{(T)q[0], (T)q[1], (T)q[2], (T)q[3]}, k);
        }
        out.k = k;
        if (backward && segment.lane >= 0) rotation_matrix(k, out.m);
        if (g == sp.first + 1) {
          const Quaternion<T>& before = shared[sp.first].k;
          out.a = product(k, before);
          out.b = product(k, turn(T(0), T(1), segment.axis, before));
        }
      }
    }
  }

  INLINE V spread_out(V v) const { return v; }
  INLINE V spread_out(T v) const { return all<V>(v); }

  static INLINE void store_gate(V* at, const Quaternion<V>& q) { at[0] = q.w, at[1] = -q.z, at[2] = q.y, at[3] = -q.x; }
  static INLINE void store_gate(V* at, const Quaternion<T>& q) {
    at[0] = all<V>(q.w), at[1] = all<V>(-q.z), at[2] = all<V>(q.y), at[3] = all<V>(-q.x);
  }

  template <class Q>
  INLINE void store_slot(const Work& w, int s, const Quaternion<Q>& q) const {
    V* at = w.coefficients + GATE * s;
    if (!layout.split_slots[s]) return store_gate(at, q);
    // a = cosine exp(-i (alpha + gamma) / 2) and b = sine exp(i (alpha - gamma) / 2); where one of them vanishes its
    // phase is free.
    const Q cosine = root(q.w * q.w + q.z * q.z), sine = root(q.x * q.x + q.y * q.y), one = Q{} + T(1), zero{};
    const auto flat = cosine == zero, upright = sine == zero;
    const Q by_cosine = one / (flat ? one : cosine), by_sine = one / (upright ? one : sine);
    const Q ar = flat ? one : q.w * by_cosine, ai = -q.z * by_cosine;
    const Q br = upright ? one : q.y * by_sine, bi = -q.x * by_sine;
    at[0] = spread_out(cosine), at[1] = spread_out(sine);
    at[2] = spread_out(br * ar + bi * ai), at[3] = spread_out(bi * ar - br * ai);
    at[4] = spread_out(ar * br - ai * bi), at[5] = spread_out(-(ar * bi + ai * br));
  }

  // Gates that are the same for all samples.
  void fill_shared(const Work& w) const {
    for (int s = 0; s < p.n_slots; s++)
      if (mode.slots[s].count == 1) store_slot(w, s, shared[mode.slots[s].first].k);
    int pauli = 0;
    for (int o = 0; o < p.n_ops; o++)
      if (p.ops[o].kind == PAULI) {
        V* at = w.coefficients + GATE * p.n_slots + 2 * pauli++;
        if (mode.is_lane[p.ops[o].angle]) continue;
        const int i = mode.number[p.ops[o].angle];
        at[0] = all<V>(shared_cosine[i]), at[1] = all<V>(shared_sine[i]);
      }
  }

  INLINE R parameter(const Work& w, int index) const {
    if (index < 0) return R{} + T(1);
    if (per_sample) return w.theta[index];
    return R{} + ((const T*)request.theta)[index];
  }

  INLINE R factor(const Work& w, const Term& term) const {
    R u = R{} + T(1);
    for (int f = term.first; f < term.first + term.count; f++) u = u * w.x[p.features[f]];
    return u;
  }

  // The angles of a block and their half-angle sines and cosines.
  void evaluate_angles(const Work& w, R* sine, R* cosine) const {
    for (int64_t i = 0; i < mode.lane_angles.size; i++) {
      const LaneAngle& lane = mode.lanes[i];
      if (lane.feature >= 0) {
        const R scale = parameter(w, lane.parameter) * (T(0.5) * (T)lane.coefficient);
        w.angle[i] = scale * w.x[lane.feature] + T(0.5) * (T)lane.constant;
        continue;
      }
      const Angle& angle = p.angles[mode.lane_angles[i]];
      R value = R{} + (T)angle.constant;
      for (int t = angle.first; t < angle.first + angle.count; t++) {
        const Term& term = p.terms[t];
        value += (T)term.coefficient * squashed(term.squash, parameter(w, term.parameter) * factor(w, term));
      }
      w.angle[i] = value * T(0.5);
    }
    if (!LANE)
      for (int64_t i = mode.lane_angles.size; i < lane_size(); i++) w.angle[i] = R{};
    sines_cosines((const V*)w.angle, (V*)sine, (V*)cosine, (int)(LANE ? lane_size() : lane_size() / W));
  }

  // The gates of a block that differ from sample to sample.
  void fill_block(const Work& w, const R* sine, const R* cosine) const {
    for (int s = 0; s < p.n_slots; s++) {
      const SlotPlan& sp = mode.slots[s];
      if (sp.count == 1) continue;
      const Segment* segment = &mode.segments[sp.first + 1];
      const Shared<T>* k = shared + sp.first + 1;
      const R c = cosine[segment->lane], sn = sine[segment->lane];
      Quaternion<R> q{c * k->a.w + sn * k->b.w, c * k->a.x + sn * k->b.x, c * k->a.y + sn * k->b.y,
                      c * k->a.z + sn * k->b.z};
      for (int g = 2; g < sp.count; g++) {
        segment++, k++;
        q = turn(cosine[segment->lane], sine[segment->lane], segment->axis, q);
        if (!segment->identity) q = product(k->k, q);
      }
      store_slot(w, s, q);
    }
    int pauli = 0;
    for (int o = 0; o < p.n_ops; o++)
      if (p.ops[o].kind == PAULI) {
        V* at = w.coefficients + GATE * p.n_slots + 2 * pauli++;
        if (!mode.is_lane[p.ops[o].angle]) continue;
        const int i = mode.number[p.ops[o].angle];
        at[0] = spread_out(cosine[i]), at[1] = spread_out(sine[i]);
      }
  }

  // ---- one block ------------------------------------------------------------------------------------

  // Rows [first, first + valid) of a row-major array as one R a column; missing rows are zero.
  void load_rows(const void* array, int64_t width, int64_t first, R* out) const {
    const T* at = (const T*)array + first * width;
    if (!LANE) {
      for (int64_t i = 0; i < width; i++) ((T*)out)[i] = at[i];
      return;
    }
    const int64_t valid = request.samples - first < W ? request.samples - first : W;
    T* to = (T*)out;
    for (int64_t i = 0; i < width; i++) {
      for (int64_t l = 0; l < valid; l++) to[i * W + l] = at[l * width + i];
      for (int64_t l = valid; l < W; l++) to[i * W + l] = 0;
    }
  }

  void store_rows(void* array, int64_t width, int64_t first, const R* in) const {
    T* at = (T*)array + first * width;
    if (!LANE) {
      for (int64_t i = 0; i < width; i++) at[i] = ((const T*)in)[i];
      return;
    }
    const int64_t valid = request.samples - first < W ? request.samples - first : W;
    const T* from = (const T*)in;
    for (int64_t l = 0; l < valid; l++)
      for (int64_t i = 0; i < width; i++) at[l * width + i] = from[i * W + l];
  }

  // The inputs of a block; false where a feature is not finite.
  bool load_block(const Work& w, int64_t block) const {
    load_rows(request.x, p.n_features, block * BLOCK, w.x);
    if (per_sample) load_rows(request.theta, p.n_parameters, block * BLOCK, w.theta);
    R bad{};
    for (int64_t f = 0; f < p.n_features; f++) bad = bad + (w.x[f] - w.x[f]);  // 0, or not a number
    return sum(bad) == 0;
  }

  const Signs<V> none{nullptr, nullptr};

  // The phases that split layer `o` begins with: its own and those that the layer before has left to it.
  Phases<V> make_phases(int o, const Work& w, const Signs<V>* signs) const {
    const Layer& layer = layout.layers[o];
    V factors[2 * 64];
    const V zero{}, one = zero + T(1);
    for (int q = 0; q < p.n_qubits; q++) factors[2 * q] = one, factors[2 * q + 1] = zero;
    for (int s = layer.first_slot; s < layer.first_slot + layer.slots; s++) {
      const V* at = w.coefficients + GATE * s;
      V* f = factors + 2 * p.slots[s].qubit;
      f[0] = at[4], f[1] = at[5];
    }
    if (layer.carried >= 0) {
      const Layer& before = layout.layers[layer.carried];
      for (int s = before.first_slot; s < before.first_slot + before.slots; s++) {
        const V* at = w.coefficients + GATE * s;
        V* f = factors + 2 * p.slots[s].qubit;
        multiply(f[0], f[1], at[2], at[3]);
      }
    }
    const int half = low_bits(), lanes = layout.log_lanes;
    V *low = w.phases, *high = w.phases + (int64_t(2) << half);
    low[0] = high[0] = one, low[1] = high[1] = zero;
    if (!LANE)
      for (int b = 0; b < LOG; b++) {
        // Lanes with the bit set take the factor, the others stay.
        const V set = (one - lane_sign<V>(b)) * T(0.5);
        multiply(low[0], low[1], one + set * (factors[2 * b] - one), set * factors[2 * b + 1]);
      }
    grow_phases(low, factors + 2 * lanes, half);
    grow_phases(high, factors + 2 * (lanes + half), high_bits() - half);
    Phases<V> phases{low, high, (int64_t(1) << half) - 1, half, none};
    if (signs) phases.signs = *signs;
    return phases;
  }

  static void grow_phases(V* table, const V* factors, int bits) {
    for (int b = 0; b < bits; b++)
      for (int64_t i = 0; i < int64_t(1) << b; i++) {
        V re = table[2 * i], im = table[2 * i + 1];
        multiply(re, im, factors[2 * b], factors[2 * b + 1]);
        table[2 * (i + (int64_t(1) << b))] = re, table[2 * (i + (int64_t(1) << b)) + 1] = im;
      }
  }

  void apply_split(int o, const Work& w, const Signs<V>* signs) const {
    const Layer& layer = layout.layers[o];
    const Phases<V> phases = make_phases(o, w, signs);
    const int64_t n = layout.count;
    bool first = true;
    for (int i = layer.first_pass; i < layer.first_pass + layer.passes; i++, first = false) {
      const Pass& pass = layout.passes[i];
      Turn<V> turns[3];
      for (int k = 0; k < pass.width; k++) turns[k] = turn_of(w, pass.slots[k]);
      if (pass.width == 1)
        first ? turn_bits<V, 1, true>(w.state, n, pass.bits, turns, phases)
              : turn_bits<V, 1, false>(w.state, n, pass.bits, turns, phases);
      else if (pass.width == 2)
        first ? turn_bits<V, 2, true>(w.state, n, pass.bits, turns, phases)
              : turn_bits<V, 2, false>(w.state, n, pass.bits, turns, phases);
      else if constexpr (WIDEST > 2)
        first ? turn_bits<V, 3, true>(w.state, n, pass.bits, turns, phases)
              : turn_bits<V, 3, false>(w.state, n, pass.bits, turns, phases);
    }
    if (!LANE && layer.lanes) {
      const LaneTurns<V> turns = lane_turns(layer, w, T(-1));
      first ? turn_all_lanes<V, true>(w.state, n, turns, phases) : turn_all_lanes<V, false>(w.state, n, turns, phases);
    }
  }

  INLINE Turn<V> turn_of(const Work& w, int slot) const {
    const V* at = w.coefficients + GATE * slot;
    return {at[0], at[1]};
  }

  LaneTurns<V> lane_turns(const Layer& layer, const Work& w, T sign) const {
    LaneTurns<V> turns;
    turns.active = layer.lanes;
    for (int b = 0; b < LOG; b++)
      if (layer.lanes >> b & 1) {
        const Turn<V> turn = turn_of(w, layer.lane_slots[b]);
        turns.cosine[b] = turn.cosine, turns.sine[b] = turn.sine * lane_sign<V>(b) * sign;
      }
    return turns;
  }

  void apply_layer(const Layer& layer, const Work& w, const Signs<V>* pending) const {
    for (int i = layer.first_pass; i < layer.first_pass + layer.passes; i++) {
      const Pass& pass = layout.passes[i];
      const Su2<V>* gates[3];
      for (int k = 0; k < pass.width; k++) gates[k] = (const Su2<V>*)(w.coefficients + GATE * pass.slots[k]);
      apply_pass(w.state, pass, gates, pending);
      pending = nullptr;
    }
    if (!LANE && layer.lanes) {
      LaneGates<V> gates;
      lane_gates(layer, w, false, gates);
      if (pending)
        apply_lanes<V, true>(w.state, layout.count, gates, *pending);
      else
        apply_lanes<V, false>(w.state, layout.count, gates, none);
    }
  }

  void lane_gates(const Layer& layer, const Work& w, bool inverted, LaneGates<V>& gates) const {
    gates.active = layer.lanes;
    for (int b = 0; b < LOG; b++)
      if (layer.lanes >> b & 1) {
        const Su2<V>& g = *(const Su2<V>*)(w.coefficients + GATE * layer.lane_slots[b]);
        gates.set(b, inverted ? inverse(g) : g);
      }
  }

  void apply_pass(V* state, const Pass& pass, const Su2<V>* const* gates, const Signs<V>* signs) const {
    const int64_t n = layout.count;
    if (pass.width == 1)
      signs ? apply<V, 1, true>(state, n, pass.bits, gates, *signs) : apply<V, 1, false>(state, n, pass.bits, gates, none);
    else if (pass.width == 2)
      signs ? apply<V, 2, true>(state, n, pass.bits, gates, *signs) : apply<V, 2, false>(state, n, pass.bits, gates, none);
    else if constexpr (WIDEST > 2)
      signs ? apply<V, 3, true>(state, n, pass.bits, gates, *signs) : apply<V, 3, false>(state, n, pass.bits, gates, none);
  }

  // The product state of the first layer by doubling.
  void product_state(const Layer& layer, const Work& w) const {
    V* s = w.state;
    const V zero{}, one = zero + T(1);
    const Su2<V>* at[64] = {};
    for (int i = layer.first_slot; i < layer.first_slot + layer.slots; i++)
      at[p.slots[i].qubit] = (const Su2<V>*)(w.coefficients + GATE * i);
    if (LANE) {
      s[0] = one, s[1] = zero;
    } else {
      T re[W], im[W];
      re[0] = 1, im[0] = 0;
      for (int b = 0; b < LOG; b++) {
        const int half = 1 << b;
        const T ar = at[b] ? at[b]->ar[0] : 1, ai = at[b] ? at[b]->ai[0] : 0;
        const T br = at[b] ? at[b]->br[0] : 0, bi = at[b] ? at[b]->bi[0] : 0;
        for (int i = 0; i < half; i++) {
          re[i + half] = br * re[i] - bi * im[i], im[i + half] = br * im[i] + bi * re[i];
          const T x = ar * re[i] - ai * im[i];
          im[i] = ar * im[i] + ai * re[i], re[i] = x;
        }
      }
      for (int i = 0; i < W; i++) s[0][i] = re[i], s[1][i] = im[i];
    }
    for (int q = layout.log_lanes; q < p.n_qubits; q++) {
      const int64_t half = int64_t(1) << (q - layout.log_lanes);
      if (!at[q]) {
        for (int64_t i = half; i < 2 * half; i++) s[2 * i] = s[2 * i + 1] = zero;
        continue;
      }
      const Su2<V> g = *at[q];
      for (int64_t i = 0; i < half; i++) {
        const V re = s[2 * i], im = s[2 * i + 1];
        s[2 * (i + half)] = g.br * re - g.bi * im, s[2 * (i + half) + 1] = g.br * im + g.bi * re;
        s[2 * i] = g.ar * re - g.ai * im, s[2 * i + 1] = g.ar * im + g.ai * re;
      }
    }
  }

  void initial_state(const Work& w) const {
    for (int64_t v = 0; v < layout.count; v++)
      for (int l = 0; l < W; l++) {
        const int64_t i = LANE ? v : v * W + l;
        w.state[2 * v][l] = p.initial ? (T)p.initial[2 * i] : i == 0;
        w.state[2 * v + 1][l] = p.initial ? (T)p.initial[2 * i + 1] : 0;
      }
  }

  void swap_spare(V*& state, V*& spare) const {
    V* other = state;
    state = spare;
    spare = other;
  }

  // The final state of a block; the sines and cosines of its angles go where `sine` and `cosine` point.
  void run_block(Work& w, R* sine, R* cosine) const {
    evaluate_angles(w, sine, cosine);
    fill_block(w, sine, cosine);
    int o = 0;
    if (plan.product_start)
      product_state(layout.layers[o++], w);
    else
      initial_state(w);
    const Signs<V>* pending = nullptr;
    for (; o < p.n_ops; o++) {
      const Op& op = p.ops[o];
      if (op.kind == LAYER) {
        if (layout.layers[o].split)
          apply_split(o, w, pending);
        else
          apply_layer(layout.layers[o], w, pending);
        pending = nullptr;
        continue;
      }
      if (pending) apply_signs(w.state, layout.count, *pending);
      pending = nullptr;
      if (op.kind == SIGNS) {
        pending = &layout.signs[o];
      } else if (op.kind == TABLE) {
        const Permutation& table = plan.tables[o];
        apply_table(w.state, w.spare, layout.count, table.source, table.power, layout.log_lanes, false);
        swap_spare(w.state, w.spare);
      } else {
        const V* at = w.coefficients + GATE * p.n_slots + 2 * op.pauli;
        apply_word(w.state, layout.count, layout.paulis[op.pauli], at[0], at[1]);
      }
    }
    if (pending) apply_signs(w.state, layout.count, *pending);
  }

  // Word values of a state into w.words; w.image is overwritten.
  void measure(const Work& w) const {
    const V* s = w.state;
    V* prob = w.image;
    const int64_t count = layout.count;
    if (layout.leaves.size) {
      int64_t first = 0;
      if (layout.nodes.size == 0) {
        prob[0] = s[0] * s[0] + s[1] * s[1];
      } else {
        const Node& node = layout.nodes[first++];
        for (int64_t i = 0; i < node.half; i++) {
          const int64_t j = i + node.half;
          const V a = s[2 * i] * s[2 * i] + s[2 * i + 1] * s[2 * i + 1];
          const V b = s[2 * j] * s[2 * j] + s[2 * j + 1] * s[2 * j + 1];
          prob[i] = a + b, prob[j] = a - b;
        }
      }
      fold(prob, first);
      for (int64_t l = 0; l < layout.leaves.size; l++) {
        const Leaf& leaf = layout.leaves[l];
        w.words[leaf.word] = read_leaf(prob[leaf.at], leaf.lanes);
      }
    }
    for (int i = 0; i < p.n_words; i++)
      if (p.words[i].x) w.words[i] = reduce(word_overlap<V, false>(s, s, count, layout.words[i]));
  }

  void fold(V* prob, int64_t first) const {
    for (int64_t n = first; n < layout.nodes.size; n++) {
      const Node& node = layout.nodes[n];
      V *low = prob + node.at, *high = prob + node.at + node.half;
      if (node.sum && node.difference)
        for (int64_t i = 0; i < node.half; i++) {
          const V a = low[i], b = high[i];
          low[i] = a + b, high[i] = a - b;
        }
      else if (node.sum)
        for (int64_t i = 0; i < node.half; i++) low[i] += high[i];
      else
        for (int64_t i = 0; i < node.half; i++) high[i] = low[i] - high[i];
    }
  }

  static V lane_word(unsigned lanes) {
    V sign{};
    for (int l = 0; l < W; l++) sign[l] = __builtin_parity((unsigned)l & lanes) ? -1 : 1;
    return sign;
  }

  INLINE R reduce(V v) const {
    if constexpr (LANE)
      return v;
    else
      return sum(v);
  }
  INLINE R read_leaf(V v, unsigned lanes) const {
    if constexpr (LANE)
      return v;
    else
      return lanes ? sum(v * lane_word(lanes)) : sum(v);
  }

  void store_values(const Work& w, int64_t block) const {
    R* values = w.outputs;
    for (int j = 0; j < p.n_observables; j++) values[j] = R{};
    for (int e = 0; e < p.n_entries; e++)
      values[p.entries[e].observable] += (T)p.entries[e].coefficient * w.words[p.entries[e].word];
    store_rows(request.values, p.n_observables, block * BLOCK, values);
  }

  // image = sum_w g_w P_w state, with g in w.words; the state may come from elsewhere.
  void make_image(const Work& w, const V* from) const {
    const int64_t count = layout.count;
    V *s = w.state, *image = w.image, *d = w.image + count;
    if (layout.leaves.size) {
      for (int64_t i = 0; i < layout.starts.size; i++) d[layout.starts[i]] = V{};
      for (int64_t l = 0; l < layout.leaves.size; l++) {
        const Leaf& leaf = layout.leaves[l];
        V g = spread_out(w.words[leaf.word]);
        if (!LANE && leaf.lanes) g = g * lane_word(leaf.lanes);
        d[leaf.at] += g;
      }
      for (int64_t n = layout.nodes.size - 1; n >= 0; n--) {
        const Node& node = layout.nodes[n];
        V *low = d + node.at, *high = d + node.at + node.half;
        if (node.sum && node.difference)
          for (int64_t i = 0; i < node.half; i++) {
            const V a = low[i], b = high[i];
            low[i] = a + b, high[i] = a - b;
          }
        else if (node.sum)
          for (int64_t i = 0; i < node.half; i++) high[i] = low[i];
        else
          for (int64_t i = 0; i < node.half; i++) low[i] = high[i], high[i] = -high[i];
      }
      // d lies in the upper half of the image and is read before it is overwritten.
      for (int64_t i = 0; i < count; i++) {
        const V f = d[i], re = from[2 * i], im = from[2 * i + 1];
        s[2 * i] = re, s[2 * i + 1] = im;
        image[2 * i] = f * re, image[2 * i + 1] = f * im;
      }
    } else {
      for (int64_t i = 0; i < 2 * count; i++) s[i] = from[i], image[i] = V{};
    }
    for (int i = 0; i < p.n_words; i++)
      if (p.words[i].x) add_word(image, s, count, layout.words[i], spread_out(w.words[i]));
  }

  // ---- gradients ------------------------------------------------------------------------------------

  void unapply_pass(const Work& w, const Pass& pass, const Su2<V>* const* gates, const Signs<V>* signs, bool off,
                    bool first, Moment<V>* moments) const {
    const int64_t n = layout.count;
    V *s = w.state, *l = w.image;
#define QRL_CASE(K, SIGNED, APPLY, FOLD)                       \
  unapply<V, K, SIGNED, APPLY, FOLD>(s, l, n, pass.bits, gates, \
                                     SIGNED ? *signs : none, moments, w.tree)
#define QRL_SELECT(K)                                                                      \
  if (signs) {                                                                             \
    if (off)                                                                               \
      first ? QRL_CASE(K, true, true, true) : QRL_CASE(K, true, true, false);              \
    else                                                                                   \
      first ? QRL_CASE(K, true, false, true) : QRL_CASE(K, true, false, false);            \
  } else {                                                                                 \
    if (off)                                                                               \
      first ? QRL_CASE(K, false, true, true) : QRL_CASE(K, false, true, false);            \
    else                                                                                   \
      first ? QRL_CASE(K, false, false, true) : QRL_CASE(K, false, false, false);          \
  }
    if (pass.width == 1) {
      QRL_SELECT(1)
    } else {
      static_assert(WIDEST_BACK == 2, "unapply has one case for each width");
      QRL_SELECT(2)
    }
#undef QRL_SELECT
#undef QRL_CASE
  }

  // Takes a layer off state and image and adds the gradients of its angles.
  void unapply_layer(const Layer& layer, const Work& w, const Signs<V>* pending, bool off) const {
    if (!layer.moments) {
      if (!off) return;
      unapply_plain(layer, w, w.state, pending);
      unapply_plain(layer, w, w.image, pending);
      return;
    }
    Moment<V>* moments = w.moments;
    int at = 0;
    uint64_t folded = 0;  // bits whose z is known
    bool first = true;
    const Signs<V>* signs = pending;
    for (int i = layer.first_back; i < layer.first_back + layer.backs; i++) {
      const Pass& pass = layout.backs[i];
      const Su2<V>* gates[3];
      for (int k = 0; k < pass.width; k++) gates[k] = (const Su2<V>*)(w.coefficients + GATE * pass.slots[k]);
      unapply_pass(w, pass, gates, signs, off, first, moments + at);
      if (first)
        for (int k = 0; k < pass.width; k++) folded |= uint64_t(1) << pass.bits[k];
      at += pass.width;
      first = false;
      if (off) signs = nullptr;
    }
    if (first) start_tree(w);
    V z[64];
    fold_rest(w, folded, z);
    if (!LANE && layer.lanes) {
      LaneGates<V> gates;
      lane_gates(layer, w, true, gates);
      Moment<V> lanes[LOG];
      if (signs)
        off ? unapply_lanes<V, true, true>(w.state, w.image, layout.count, gates, *signs, lanes)
            : unapply_lanes<V, true, false>(w.state, w.image, layout.count, gates, *signs, lanes);
      else
        off ? unapply_lanes<V, false, true>(w.state, w.image, layout.count, gates, none, lanes)
            : unapply_lanes<V, false, false>(w.state, w.image, layout.count, gates, none, lanes);
      lane_gradients(layer, w, lanes);
    }
    bit_gradients(layer, w, folded, z);
  }

  // Sums `tree` up and returns z of the bits that no pass has folded, from the highest down.
  void fold_rest(const Work& w, uint64_t folded, V* z) const {
    int64_t size = layout.count >> __builtin_popcountll(folded);
    for (int b = high_bits() - 1; b >= 0; b--) {
      if (folded >> b & 1) continue;
      size >>= 1;
      V total{};
      for (int64_t i = 0; i < size; i++) {
        const V low = w.tree[i], high = w.tree[i + size];
        total += low - high;
        w.tree[i] = low + high;
      }
      z[b] = total;
    }
  }

  void start_tree(const Work& w) const {
    for (int64_t i = 0; i < layout.count; i++)
      w.tree[i] = w.image[2 * i] * w.state[2 * i + 1] - w.image[2 * i + 1] * w.state[2 * i];
  }

  void lane_gradients(const Layer& layer, const Work& w, const Moment<V>* lanes) const {
    for (int b = 0; b < LOG; b++) {
      if (!(layer.lanes >> b & 1)) continue;
      const V sign = lane_sign<V>(b);
      const R m[3] = {reduce(lanes[b].x), reduce(-(lanes[b].y * sign)), reduce(w.tree[0] * sign)};
      moment_gradients(layer, w, layer.lane_slots[b], m);
    }
  }

  void bit_gradients(const Layer& layer, const Work& w, uint64_t folded, const V* z) const {
    int at = 0;
    for (int i = layer.first_back; i < layer.first_back + layer.backs; i++) {
      const Pass& pass = layout.backs[i];
      for (int k = 0; k < pass.width; k++, at++) {
        const V vz = folded >> pass.bits[k] & 1 ? w.moments[at].z : z[pass.bits[k]];
        const R m[3] = {reduce(w.moments[at].x), reduce(w.moments[at].y), reduce(vz)};
        moment_gradients(layer, w, pass.slots[k], m);
      }
    }
  }

  // Of a split layer the moments stand in front of its last phases: they are turned about Z by alpha.
  void moment_gradients(const Layer& layer, const Work& w, int slot, const R* m) const {
    if (!layer.split) return slot_gradients(w, slot, m);
    const V* at = w.coefficients + GATE * slot;
    const R cosine = first_of(at[2]), sine = first_of(at[3]);
    const R behind[3] = {cosine * m[0] - sine * m[1], sine * m[0] + cosine * m[1], m[2]};
    slot_gradients(w, slot, behind);
  }

  INLINE R first_of(V v) const {
    if constexpr (LANE)
      return v;
    else
      return v[0];
  }

  // Takes the real rotations of split layer `o` off, after the phases of the layer behind, and adds its gradients.
  void unapply_split(int o, const Work& w, const Phases<V>* behind) const {
    const Layer& layer = layout.layers[o];
    const Phases<V> nothing{};
    const Phases<V>* phases = behind;
    const int64_t n = layout.count;
    uint64_t folded = 0;
    Moment<V>* moments = w.moments;
    bool first = true;
    for (int i = layer.first_back; i < layer.first_back + layer.backs; i++) {
      const Pass& pass = layout.backs[i];
      Turn<V> turns[3];
      for (int k = 0; k < pass.width; k++) turns[k] = turn_of(w, pass.slots[k]);
#define QRL_CASE(K, PHASED, FOLD)                                       \
  unturn_bits<V, K, PHASED, FOLD>(w.state, w.image, n, pass.bits, turns, \
                                  PHASED ? *phases : nothing, moments, w.tree)
#define QRL_SELECT(K)                                        \
  if (phases)                                                \
    first ? QRL_CASE(K, true, true) : QRL_CASE(K, true, false); \
  else                                                       \
    first ? QRL_CASE(K, false, true) : QRL_CASE(K, false, false);
      static_assert(WIDEST_BACK == 2, "one case for each width");
      if (pass.width == 1) {
        QRL_SELECT(1)
      } else {
        QRL_SELECT(2)
      }
#undef QRL_SELECT
#undef QRL_CASE
      if (first)
        for (int k = 0; k < pass.width; k++) folded |= uint64_t(1) << pass.bits[k];
      moments += pass.width;
      first = false;
      phases = nullptr;
    }
    if (first && phases) {
      unphase(w.state, w.image, n, *phases);
      phases = nullptr;
    }
    if (first) start_tree(w);
    V z[64];
    fold_rest(w, folded, z);
    if (!LANE && layer.lanes) {
      Moment<V> lanes[LOG];
      unturn_all_lanes<V, false>(w.state, w.image, n, lane_turns(layer, w, T(1)), nothing, lanes);
      lane_gradients(layer, w, lanes);
    }
    bit_gradients(layer, w, folded, z);
  }

  void unapply_plain(const Layer& layer, const Work& w, V* state, const Signs<V>* pending) const {
    for (int i = layer.first_back; i < layer.first_back + layer.backs; i++) {
      const Pass& pass = layout.backs[i];
      Su2<V> inverses[3];
      const Su2<V>* gates[3];
      for (int k = 0; k < pass.width; k++) {
        inverses[k] = inverse(*(const Su2<V>*)(w.coefficients + GATE * pass.slots[k]));
        gates[k] = &inverses[k];
      }
      apply_pass(state, pass, gates, pending);
      pending = nullptr;
    }
    if (!LANE && layer.lanes) {
      LaneGates<V> gates;
      lane_gates(layer, w, true, gates);
      if (pending)
        apply_lanes<V, true>(state, layout.count, gates, *pending);
      else
        apply_lanes<V, false>(state, layout.count, gates, none);
    }
  }

  // From the moments behind a slot to the gradients of its angles, from the last rotation to the first.
  void slot_gradients(const Work& w, int s, const R* moments) const {
    const SlotPlan& sp = mode.slots[s];
    R m[3] = {moments[0], moments[1], moments[2]};
    for (int g = sp.count - 1; g >= 0; g--) {
      const Segment& segment = mode.segments[sp.first + g];
      if (segment.sums >= 0)
        for (int i = 0; i < 3; i++) w.sums[segment.sums + i] += m[i];
      if (g == 0) return;
      const T* k = shared[sp.first + g].m;
      const int axis = segment.axis, f = (axis + 1) % 3, h = (axis + 2) % 3;
      // Row i of the transposed rotation: the moments in front of the segment's shared rotations.
      const R along = segment.identity ? m[axis] : k[axis] * m[0] + k[3 + axis] * m[1] + k[6 + axis] * m[2];
      angle_gradient(w, segment.lane, along);
      if (!segment.inward) return;
      R mf = m[f], mh = m[h];
      if (!segment.identity) {
        mf = k[f] * m[0] + k[3 + f] * m[1] + k[6 + f] * m[2];
        mh = k[h] * m[0] + k[3 + h] * m[1] + k[6 + h] * m[2];
      }
      const R c = w.cosine[segment.lane], sn = w.sine[segment.lane];
      const R cosine = c * c - sn * sn, sine = T(2) * c * sn;
      m[axis] = along;
      m[f] = cosine * mf + sine * mh;
      m[h] = cosine * mh - sine * mf;
    }
  }

  // Carries the gradient of a sample's own angle on to parameters and features.
  INLINE void angle_gradient(const Work& w, int number, R gradient) const {
    const LaneAngle& lane = mode.lanes[number];
    if (lane.feature < 0) return terms_gradient(w, number, gradient);
    const R g = gradient * (T)lane.coefficient;
    if (lane.sums >= 0)
      w.sums[lane.sums] += g * w.x[lane.feature];
    else if (per_sample && lane.parameter >= 0)
      w.dtheta[lane.parameter] += g * w.x[lane.feature];
    if (request.dx) w.dx[lane.feature] += g * parameter(w, lane.parameter);
  }

  void terms_gradient(const Work& w, int lane, R gradient) const {
    const Angle& angle = p.angles[mode.lane_angles[lane]];
    for (int t = angle.first; t < angle.first + angle.count; t++) {
      const Term& term = p.terms[t];
      const R f = factor(w, term);
      R g = gradient * (T)term.coefficient;
      if (term.squash) {
        const R u = parameter(w, term.parameter) * f;
        if (term.squash == 1) {
          const R v = squashed(1, u);
          g = g * (T(1) - v * v);
        } else {
          g = g / (T(1) + u * u);
        }
      }
      if (term.parameter >= 0) {
        if (per_sample)
          w.dtheta[term.parameter] += g * f;
        else
          w.sums[mode.term_sums[t]] += g * f;
      }
      if (request.dx)
        for (int a = term.first; a < term.first + term.count; a++) {
          R others = g * parameter(w, term.parameter);
          for (int b = term.first; b < term.first + term.count; b++)
            if (b != a) others = others * w.x[p.features[b]];
          w.dx[p.features[a]] += others;
        }
    }
  }

  // Gradients of a block whose final state stands in `from`.
  void gradients(Work& w, const V* from, const R* sine, const R* cosine) const {
    w.sine = (R*)sine, w.cosine = (R*)cosine;
    for (int i = 0; i < p.n_words; i++) w.words[i] = R{};
    for (int e = 0; e < p.n_entries; e++)
      w.words[p.entries[e].word] += (T)p.entries[e].coefficient * w.outputs[p.entries[e].observable];
    make_image(w, from);
    const Signs<V>* pending = nullptr;
    Phases<V> phases{};  // of the split layer behind, still to be taken off
    bool phased = false;
    for (int o = p.n_ops - 1; o >= plan.first_differentiable; o--) {
      const Op& op = p.ops[o];
      const bool off = o > plan.first_differentiable;
      if (op.kind == SIGNS && phased) {
        phases.signs = layout.signs[o];
        continue;
      }
      if (op.kind == LAYER && layout.layers[o].split) {
        unapply_split(o, w, phased ? &phases : nullptr);
        phases = make_phases(o, w, nullptr);
        phased = true;
        continue;
      }
      if (phased) unphase(w.state, w.image, layout.count, phases);
      phased = false;
      if (op.kind == LAYER) {
        unapply_layer(layout.layers[o], w, pending, off);
        pending = nullptr;
        continue;
      }
      if (pending) {
        apply_signs(w.state, layout.count, *pending);
        apply_signs(w.image, layout.count, *pending);
        pending = nullptr;
      }
      if (op.kind == SIGNS) {
        pending = &layout.signs[o];
      } else if (op.kind == TABLE) {
        const Permutation& table = plan.tables[o];
        apply_table(w.state, w.spare, layout.count, table.source, table.power, layout.log_lanes, true);
        swap_spare(w.state, w.spare);
        apply_table(w.image, w.spare, layout.count, table.source, table.power, layout.log_lanes, true);
        swap_spare(w.image, w.spare);
      } else {
        const WordPlan<V>& word = layout.paulis[op.pauli];
        if (differentiable(p, op.angle)) {
          const R g = reduce(word_overlap<V, true>(w.image, w.state, layout.count, word));
          if (mode.is_lane[op.angle])
            angle_gradient(w, mode.number[op.angle], g);
          else if (mode.pauli_sums[op.pauli] >= 0)
            w.sums[mode.pauli_sums[op.pauli]] += g;
        }
        if (off) {
          const V* at = w.coefficients + GATE * p.n_slots + 2 * op.pauli;
          apply_word(w.state, layout.count, word, at[0], -at[1]);
          apply_word(w.image, layout.count, word, at[0], -at[1]);
        }
      }
    }
  }

  // From sums over samples to the gradient of the shared parameters.
  void finish() const {
    T* out = (T*)request.dtheta;
    double* total = totals;
    for (int i = 0; i < p.n_parameters; i++) total[i] = 0;
    double* sums = chunk_sums;
    for (int64_t c = 1; c < chunks; c++)
      for (int i = 0; i < mode.sums; i++) sums[i] += chunk_sums[c * mode.sums + i];
    for (int s = 0; s < p.n_slots; s++) {
      const SlotPlan& sp = mode.slots[s];
      for (int g = 0; g < sp.count; g++) {
        const Segment& segment = mode.segments[sp.first + g];
        if (segment.sums < 0) continue;
        double m[3] = {sums[segment.sums], sums[segment.sums + 1], sums[segment.sums + 2]};
        if (g == sp.count - 1 && !p.slots[s].plain) {
          const double* q = p.slots[s].clifford;
          double k[9], t[3];
          rotation_matrix(Quaternion<double>{q[0], q[1], q[2], q[3]}, k);
          for (int i = 0; i < 3; i++) t[i] = k[i] * m[0] + k[3 + i] * m[1] + k[6 + i] * m[2];
          for (int i = 0; i < 3; i++) m[i] = t[i];
        }
        for (int r = segment.first + segment.count - 1; r >= segment.first; r--) {
          const int axis = p.rotations[r].axis, f = (axis + 1) % 3, h = (axis + 2) % 3;
          const int angle = p.rotations[r].angle, i = mode.number[angle];
          shared_gradient(angle, m[axis], total);
          const double c = shared_cosine[i], sn = shared_sine[i];
          const double cosine = c * c - sn * sn, sine = 2 * c * sn, mf = m[f];
          m[f] = cosine * mf + sine * m[h];
          m[h] = cosine * m[h] - sine * mf;
        }
      }
    }
    for (int o = 0; o < p.n_ops; o++)
      if (p.ops[o].kind == PAULI && mode.pauli_sums[p.ops[o].pauli] >= 0)
        shared_gradient(p.ops[o].angle, sums[mode.pauli_sums[p.ops[o].pauli]], total);
    for (int64_t t = 0; t < mode.term_sums.size; t++)
      if (mode.term_sums[t] >= 0) total[p.terms[t].parameter] += sums[mode.term_sums[t]];
    for (int i = 0; i < p.n_parameters; i++) out[i] = (T)total[i];
  }

  void shared_gradient(int index, double gradient, double* total) const {
    const Angle& angle = p.angles[index];
    for (int t = angle.first; t < angle.first + angle.count; t++) {
      const Term& term = p.terms[t];
      if (term.parameter < 0) continue;
      const double u = ((const T*)request.theta)[term.parameter];
      double slope = term.coefficient;
      if (term.squash == 1) slope *= 1 - tanh_of(u) * tanh_of(u);
      if (term.squash == 2) slope /= 1 + u * u;
      total[term.parameter] += gradient * slope;
    }
  }

  // ---- calls ----------------------------------------------------------------------------------------

  struct Job {
    Machine* machine;
    Work* own;
    bool backward;
    void (Machine::*chunk)(Work&, int64_t);
  };

  static void body(void* context, int64_t first, int64_t last, int worker) {
    Job& job = *(Job*)context;
    Machine& m = *job.machine;
    Work w;
    if (worker == 0) {
      w = *job.own;
    } else {
      char* memory = (char*)scratch(m.work_bytes);
      if (!memory) {
        m.status = QRL_NO_MEMORY;
        return;
      }
      Carver c{memory};
      w = m.carve(c, job.backward);
    }
    m.fill_shared(w);
    for (int64_t c = first; c < last; c++) (m.*job.chunk)(w, c);
  }

  int run(bool backward, void (Machine::*chunk)(Work&, int64_t)) {
    Work own;
    if (!prepare(backward, own)) return QRL_NO_MEMORY;
    Job job{this, &own, backward, chunk};
    const int threads = request.threads < 1 ? 1 : request.threads;
    parallel(threads, chunks, body, &job);
    return status;
  }

  int64_t last_block(int64_t chunk) const {
    const int64_t last = (chunk + 1) * chunk_blocks;
    return last < blocks ? last : blocks;
  }

  void forward_chunk(Work& w, int64_t chunk) {
    for (int64_t b = chunk * chunk_blocks; b < last_block(chunk); b++) {
      if (!load_block(w, b)) {
        status = QRL_NOT_FINITE;
        return;
      }
      R *sine = w.sine, *cosine = w.cosine;
      V* own = w.state;
      if (request.saved) {
        // The state is written where it is kept.
        T* keep = (T*)request.saved + b * saved_stride();
        if (!p.has_tables) w.state = (V*)keep;
        sine = (R*)(keep + state_elements());
        cosine = sine + lane_size();
      }
      run_block(w, sine, cosine);
      if (request.saved && p.has_tables)
        memcpy((T*)request.saved + b * saved_stride(), w.state, (size_t)state_elements() * sizeof(T));
      measure(w);
      store_values(w, b);
      if (!p.has_tables) w.state = own;
    }
  }

  void backward_chunk(Work& w, int64_t chunk) {
    double* sums = chunk_sums + chunk * mode.sums;
    for (int i = 0; i < mode.sums; i++) sums[i] = 0, w.sums[i] = R{};
    R *own_sine = w.sine, *own_cosine = w.cosine;
    for (int64_t b = chunk * chunk_blocks; b < last_block(chunk); b++) {
      if (!load_block(w, b)) {
        status = QRL_NOT_FINITE;
        return;
      }
      load_rows(request.upstream, p.n_observables, b * BLOCK, w.outputs);
      for (int i = 0; i < p.n_features; i++) w.dx[i] = R{};
      if (per_sample)
        for (int i = 0; i < p.n_parameters; i++) w.dtheta[i] = R{};
      if (request.saved) {
        const T* keep = (const T*)request.saved + b * saved_stride();
        const R* sine = (const R*)(keep + state_elements());
        fill_block(w, sine, sine + lane_size());
        gradients(w, (const V*)keep, sine, sine + lane_size());
      } else {
        w.sine = own_sine, w.cosine = own_cosine;
        run_block(w, own_sine, own_cosine);
        gradients(w, w.state, own_sine, own_cosine);
      }
      if (request.dx) store_rows(request.dx, p.n_features, b * BLOCK, w.dx);
      if (per_sample && request.dtheta) store_rows(request.dtheta, p.n_parameters, b * BLOCK, w.dtheta);
      if (!LANE || (b + 1) % 32 == 0 || b + 1 == last_block(chunk))
        for (int i = 0; i < mode.sums; i++) sums[i] += sum(w.sums[i]), w.sums[i] = R{};
    }
    w.sine = own_sine, w.cosine = own_cosine;
  }

  // ---- shots ----------------------------------------------------------------------------------------

  // xoshiro256++ (D. Blackman and S. Vigna, public domain), seeded through splitmix64.
  struct Random {
    uint64_t s[4];

    Random(uint64_t seed, uint64_t sample, uint64_t group) {
      uint64_t x = seed;
      mix(x);
      x ^= sample * 0x9e3779b97f4a7c15u;
      mix(x);
      x ^= group * 0xbf58476d1ce4e5b9u;
      for (int i = 0; i < 4; i++) s[i] = mix(x);
    }
    static uint64_t mix(uint64_t& x) {
      uint64_t z = x += 0x9e3779b97f4a7c15u;
      z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
      z = (z ^ z >> 27) * 0x94d049bb133111ebu;
      return z ^ z >> 31;
    }
    static uint64_t left(uint64_t v, int k) { return v << k | v >> (64 - k); }
    double uniform() {
      const uint64_t result = left(s[0] + s[3], 23) + s[0], t = s[1] << 17;
      s[2] ^= s[0], s[3] ^= s[1], s[1] ^= s[2], s[0] ^= s[3], s[2] ^= t, s[3] = left(s[3], 45);
      return (double)(result >> 11) * 0x1p-53;
    }
  };

  // The state of a group's measurement basis in w.image: X turns into Z about Y, and Y about X.
  void rotate_basis(const Work& w, const Group& group) const {
    for (int64_t i = 0; i < 2 * layout.count; i++) w.image[i] = w.state[i];
    const T h = (T)0.70710678118654752440;
    for (int q = 0; q < p.n_qubits; q++) {
      if (!group.basis[q]) continue;
      const Quaternion<T> turn = group.basis[q] == 1 ? Quaternion<T>{h, 0, -h, 0} : Quaternion<T>{h, h, 0, 0};
      Su2<V> gate;
      store_gate((V*)&gate, turn);
      if (q < layout.log_lanes) {
        LaneGates<V> gates;
        gates.active = 1u << q;
        gates.set(q, gate);
        apply_lanes<V, false>(w.image, layout.count, gates, none);
      } else {
        const Su2<V>* gates[1] = {&gate};
        const int bit = q - layout.log_lanes;
        apply<V, 1, false>(w.image, layout.count, &bit, gates, none);
      }
    }
  }

  double probability(const V* state, int64_t i, int lane) const {
    const T* at = (const T*)state;
    const int64_t place = LANE ? 2 * i * W + lane : (i / W) * 2 * W + i % W;
    const double re = at[place], im = at[place + W];
    return re * re + im * im;
  }

  // What one outcome adds, `times` over, to the sums and sums of squares of the observables.
  void add_outcome(const Group& group, uint32_t outcome, double times, double* sums) const {
    const int n = p.n_observables;
    double* value = sums + 2 * n;
    for (int j = 0; j < n; j++) value[j] = 0;
    for (int e = group.first; e < group.first + group.count; e++) {
      const Entry& entry = p.entries[p.group_entries[e]];
      const Word& word = p.words[entry.word];
      value[entry.observable] += __builtin_parity(outcome & (word.x | word.z)) ? -entry.coefficient : entry.coefficient;
    }
    for (int j = 0; j < n; j++) sums[j] += times * value[j], sums[n + j] += times * value[j] * value[j];
  }

  void sample_chunk(Work& w, int64_t chunk) {
    const int64_t size = int64_t(1) << p.n_qubits, shots = request.shots;
    const int n = p.n_observables;
    const bool counted = size <= shots;
    double* cumulative = (double*)malloc((size_t)size * (counted ? 2 : 1) * sizeof(double));
    double* sums = (double*)malloc((size_t)(5 * n) * sizeof(double) * (LANE ? W : 1));
    if (!cumulative || !sums) status = QRL_NO_MEMORY;
    for (int64_t b = chunk * chunk_blocks; b < last_block(chunk) && status == QRL_OK; b++) {
      if (!load_block(w, b)) {
        status = QRL_NOT_FINITE;
        break;
      }
      run_block(w, w.sine, w.cosine);
      const int64_t left = request.samples - b * BLOCK;
      const int valid = (int)(left < BLOCK ? left : BLOCK);
      double *means = sums + 3 * n, *variances = means + n * valid;
      for (int i = 0; i < n * valid; i++) means[i] = variances[i] = 0;
      for (int e = 0; e < p.n_entries; e++)
        if (!p.words[p.entries[e].word].x && !p.words[p.entries[e].word].z)
          for (int l = 0; l < valid; l++) means[n * l + p.entries[e].observable] += p.entries[e].coefficient;
      for (int g = 0; g < p.n_groups; g++) {
        rotate_basis(w, p.groups[g]);
        for (int l = 0; l < valid; l++) {
          double total = 0;
          for (int64_t i = 0; i < size; i++) cumulative[i] = total += probability(w.image, i, l);
          Random random(request.seed, (uint64_t)(b * BLOCK + l), (uint64_t)g);
          double* counts = cumulative + size;
          if (counted)
            for (int64_t i = 0; i < size; i++) counts[i] = 0;
          for (int i = 0; i < 2 * n; i++) sums[i] = 0;
          for (int64_t shot = 0; shot < shots; shot++) {
            const double u = random.uniform() * total;
            int64_t low = 0;  // the first outcome whose cumulated probability exceeds u
            for (int64_t half = size / 2; half; half /= 2)
              if (cumulative[low + half - 1] <= u) low += half;
            if (counted)
              counts[low] += 1;
            else
              add_outcome(p.groups[g], (uint32_t)low, 1, sums);
          }
          if (counted)
            for (int64_t i = 0; i < size; i++)
              if (counts[i] > 0) add_outcome(p.groups[g], (uint32_t)i, counts[i], sums);
          double* measured = sums + 2 * n;  // which observables have a word in this group
          for (int j = 0; j < n; j++) measured[j] = 0;
          for (int e = p.groups[g].first; e < p.groups[g].first + p.groups[g].count; e++)
            measured[p.entries[p.group_entries[e]].observable] = 1;
          for (int j = 0; j < n; j++) {
            if (!measured[j]) continue;
            const double mean = sums[j] / (double)shots + (total - total);  // not a number where the state is none
            const double spread = sums[n + j] / (double)shots - mean * mean;
            means[n * l + j] += mean;
            variances[n * l + j] += shots > 1 ? (spread < 0 ? 0 : spread) / (double)(shots - 1) : __builtin_nan("");
          }
        }
      }
      T *out = (T*)request.values + b * BLOCK * n, *errors = (T*)request.errors + b * BLOCK * n;
      for (int i = 0; i < n * valid; i++) out[i] = (T)means[i], errors[i] = (T)__builtin_sqrt(variances[i]);
    }
    free(cumulative);
    free(sums);
  }

  int forward() { return run(false, &Machine::forward_chunk); }

  int sample() { return run(true, &Machine::sample_chunk); }

  int backward() {
    const int result = run(true, &Machine::backward_chunk);
    if (result == QRL_OK && request.dtheta && !per_sample) finish();
    return result;
  }
};

}  // namespace
