// Passes over a state of `count` vector amplitudes, stored as (real, imaginary) pairs of vectors.
//
// "Bit" means a bit of the index of a vector amplitude. Where samples lie across lanes, bit q is qubit q;
// where amplitudes do, the lowest qubits are the lanes and bit b is qubit b + LOG. A pass takes up to three
// bits through registers at once.

namespace {

// The matrix [[a, -conj(b)], [b, conj(a)]].
template <class V>
struct Su2 {
  V ar, ai, br, bi;
};

template <class V>
INLINE Su2<V> inverse(const Su2<V>& g) {
  return {g.ar, -g.ai, -g.br, -g.bi};
}

// Signs of amplitudes: index[i] picks the lane mask of vector amplitude i.
template <class V>
struct Signs {
  const typename Of<V>::I* masks;
  const uint16_t* index;
};

template <class V>
INLINE void rotate(V& r0, V& i0, V& r1, V& i1, const Su2<V>& g) {
  const V x0 = g.ar * r0 - g.ai * i0 - g.br * r1 - g.bi * i1;
  const V y0 = g.ar * i0 + g.ai * r0 - g.br * i1 + g.bi * r1;
  const V x1 = g.br * r0 - g.bi * i0 + g.ar * r1 + g.ai * i1;
  const V y1 = g.br * i0 + g.bi * r0 + g.ar * i1 - g.ai * r1;
  r0 = x0, i0 = y0, r1 = x1, i1 = y1;
}

// Puts a zero at each bit, in ascending order.
template <int K>
INLINE int64_t spread(int64_t index, const int* bits) {
#pragma GCC unroll 3
  for (int k = 0; k < K; k++) {
    const int64_t low = (int64_t(1) << bits[k]) - 1;
    index = ((index & ~low) << 1) | (index & low);
  }
  return index;
}

template <int K>
struct Offsets {
  int64_t at[1 << K];
  explicit inline __attribute__((always_inline)) Offsets(const int* bits) {
#pragma GCC unroll 8
    for (int j = 0; j < (1 << K); j++) {
      at[j] = 0;
      for (int k = 0; k < K; k++)
        if (j >> k & 1) at[j] += int64_t(1) << bits[k];
    }
  }
};

template <class V, int K, bool SIGNED>
static void apply(V* state, int64_t count, const int* bits, const Su2<V>* const* gates, const Signs<V>& signs) {
  constexpr int A = 1 << K;
  const Offsets<K> offset(bits);
  Su2<V> g[K];
#pragma GCC unroll 3
  for (int k = 0; k < K; k++) g[k] = *gates[k];
  for (int64_t group = 0; group < count >> K; group++) {
    const int64_t base = spread<K>(group, bits);
    V re[A], im[A];
#pragma GCC unroll 8
    for (int j = 0; j < A; j++) {
      const int64_t i = base + offset.at[j];
      re[j] = state[2 * i], im[j] = state[2 * i + 1];
      if (SIGNED) {
        const auto mask = signs.masks[signs.index[i]];
        re[j] = flip(re[j], mask), im[j] = flip(im[j], mask);
      }
    }
#pragma GCC unroll 3
    for (int k = 0; k < K; k++)
#pragma GCC unroll 8
      for (int j = 0; j < A; j++)
        if (!(j >> k & 1)) rotate(re[j], im[j], re[j | 1 << k], im[j | 1 << k], g[k]);
#pragma GCC unroll 8
    for (int j = 0; j < A; j++) {
      const int64_t i = base + offset.at[j];
      state[2 * i] = re[j], state[2 * i + 1] = im[j];
    }
  }
}

// Im <image| X, Y, Z |state> of some bits; z is filled where a pass folds it.
template <class V>
struct Moment {
  V x, y, z;
};

// One product at a time: each line is one fused multiply-add.
template <class V>
INLINE void add_moment(V& x, V& y, const V* re, const V* im, const V* lr, const V* li, int j, int o) {
  x += lr[j] * im[o];
  x -= li[j] * re[o];
  x += lr[o] * im[j];
  x -= li[o] * re[j];
  y += lr[o] * re[j];
  y += li[o] * im[j];
  y -= lr[j] * re[o];
  y -= li[j] * im[o];
}

// Reads the moments of K bits and then, where APPLY is set, takes their gates off the state and its image.
// Where FOLD is set it also sums Im(conj(image) state) over the K bits into `tree`, one entry a group.
template <class V, int K, bool SIGNED, bool APPLY, bool FOLD>
static void unapply(V* state, V* image, int64_t count, const int* bits, const Su2<V>* const* gates,
                    const Signs<V>& signs, Moment<V>* moments, V* tree) {
  constexpr int A = 1 << K;
  const Offsets<K> offset(bits);
  Su2<V> g[K];
  V mx[K], my[K], mz[K];
#pragma GCC unroll 3
  for (int k = 0; k < K; k++) g[k] = inverse(*gates[k]), mx[k] = my[k] = mz[k] = V{};
  for (int64_t group = 0; group < count >> K; group++) {
    const int64_t base = spread<K>(group, bits);
    V re[A], im[A], lr[A], li[A];
#pragma GCC unroll 8
    for (int j = 0; j < A; j++) {
      const int64_t i = base + offset.at[j];
      re[j] = state[2 * i], im[j] = state[2 * i + 1];
      lr[j] = image[2 * i], li[j] = image[2 * i + 1];
      if (SIGNED) {
        const auto mask = signs.masks[signs.index[i]];
        re[j] = flip(re[j], mask), im[j] = flip(im[j], mask);
        lr[j] = flip(lr[j], mask), li[j] = flip(li[j], mask);
      }
    }
    if (FOLD) {
      V t[A];
#pragma GCC unroll 8
      for (int j = 0; j < A; j++) t[j] = lr[j] * im[j] - li[j] * re[j];
#pragma GCC unroll 3
      for (int k = K - 1; k >= 0; k--)
#pragma GCC unroll 4
        for (int j = 0; j < 1 << k; j++) {
          mz[k] += t[j] - t[j + (1 << k)];
          t[j] += t[j + (1 << k)];
        }
      tree[group] = t[0];
    }
#pragma GCC unroll 3
    for (int k = 0; k < K; k++)
#pragma GCC unroll 8
      for (int j = 0; j < A; j++)
        if (!(j >> k & 1)) add_moment(mx[k], my[k], re, im, lr, li, j, j | 1 << k);
    if (APPLY) {
#pragma GCC unroll 3
      for (int k = 0; k < K; k++)
#pragma GCC unroll 8
        for (int j = 0; j < A; j++)
          if (!(j >> k & 1)) rotate(re[j], im[j], re[j | 1 << k], im[j | 1 << k], g[k]);
#pragma GCC unroll 8
      for (int j = 0; j < A; j++) {
        const int64_t i = base + offset.at[j];
        state[2 * i] = re[j], state[2 * i + 1] = im[j];
      }
#pragma GCC unroll 3
      for (int k = 0; k < K; k++)
#pragma GCC unroll 8
        for (int j = 0; j < A; j++)
          if (!(j >> k & 1)) rotate(lr[j], li[j], lr[j | 1 << k], li[j | 1 << k], g[k]);
#pragma GCC unroll 8
      for (int j = 0; j < A; j++) {
        const int64_t i = base + offset.at[j];
        image[2 * i] = lr[j], image[2 * i + 1] = li[j];
      }
    }
  }
#pragma GCC unroll 3
  for (int k = 0; k < K; k++) {
    moments[k].x = mx[k], moments[k].y = my[k];
    if (FOLD) moments[k].z = mz[k];
  }
}

// A matrix of SU(2) is phase, real rotation, phase: up to a global factor
// diag(1, alpha) [[cosine, -sine], [sine, cosine]] diag(1, gamma). Real rotations take half the work, and the phases
// of all qubits, of the layer before too, and the signs between them are one product for each amplitude.
template <class V>
struct Turn {
  V cosine, sine;
};

// The phase of amplitude i is low[i & mask] * high[i >> shift], each a pair (real, imaginary), times its sign.
template <class V>
struct Phases {
  const V *low, *high;
  int64_t mask;
  int shift;
  Signs<V> signs;  // without an index: none
};

template <class V>
INLINE void phase_at(const Phases<V>& phases, int64_t i, V& real, V& imaginary) {
  const V *l = phases.low + 2 * (i & phases.mask), *h = phases.high + 2 * (i >> phases.shift);
  real = l[0] * h[0] - l[1] * h[1];
  imaginary = l[0] * h[1] + l[1] * h[0];
  if (phases.signs.index) {
    const auto mask = phases.signs.masks[phases.signs.index[i]];
    real = flip(real, mask), imaginary = flip(imaginary, mask);
  }
}

template <class V>
INLINE void multiply(V& re, V& im, V real, V imaginary) {
  const V x = re * real - im * imaginary;
  im = re * imaginary + im * real;
  re = x;
}

template <class V>
INLINE void turn_pair(V& a, V& b, V cosine, V sine) {
  const V x = cosine * a - sine * b;
  b = sine * a + cosine * b;
  a = x;
}

template <class V, int K, bool PHASED>
static void turn_bits(V* state, int64_t count, const int* bits, const Turn<V>* turns, const Phases<V>& phases) {
  constexpr int A = 1 << K;
  const Offsets<K> offset(bits);
  Turn<V> t[K];
#pragma GCC unroll 3
  for (int k = 0; k < K; k++) t[k] = turns[k];
  for (int64_t group = 0; group < count >> K; group++) {
    const int64_t base = spread<K>(group, bits);
    V re[A], im[A];
#pragma GCC unroll 8
    for (int j = 0; j < A; j++) {
      const int64_t i = base + offset.at[j];
      re[j] = state[2 * i], im[j] = state[2 * i + 1];
      if (PHASED) {
        V real, imaginary;
        phase_at(phases, i, real, imaginary);
        multiply(re[j], im[j], real, imaginary);
      }
    }
#pragma GCC unroll 3
    for (int k = 0; k < K; k++)
#pragma GCC unroll 8
      for (int j = 0; j < A; j++)
        if (!(j >> k & 1)) {
          turn_pair(re[j], re[j | 1 << k], t[k].cosine, t[k].sine);
          turn_pair(im[j], im[j | 1 << k], t[k].cosine, t[k].sine);
        }
#pragma GCC unroll 8
    for (int j = 0; j < A; j++) {
      const int64_t i = base + offset.at[j];
      state[2 * i] = re[j], state[2 * i + 1] = im[j];
    }
  }
}

// The counterpart of `unapply` for real rotations: the phases, where given, are taken off first.
template <class V, int K, bool PHASED, bool FOLD>
static void unturn_bits(V* state, V* image, int64_t count, const int* bits, const Turn<V>* turns,
                        const Phases<V>& phases, Moment<V>* moments, V* tree) {
  constexpr int A = 1 << K;
  const Offsets<K> offset(bits);
  Turn<V> t[K];
  V mx[K], my[K], mz[K];
#pragma GCC unroll 3
  for (int k = 0; k < K; k++) t[k] = {turns[k].cosine, -turns[k].sine}, mx[k] = my[k] = mz[k] = V{};
  for (int64_t group = 0; group < count >> K; group++) {
    const int64_t base = spread<K>(group, bits);
    V re[A], im[A], lr[A], li[A];
#pragma GCC unroll 8
    for (int j = 0; j < A; j++) {
      const int64_t i = base + offset.at[j];
      re[j] = state[2 * i], im[j] = state[2 * i + 1];
      lr[j] = image[2 * i], li[j] = image[2 * i + 1];
      if (PHASED) {
        V real, imaginary;
        phase_at(phases, i, real, imaginary);
        multiply(re[j], im[j], real, -imaginary);
        multiply(lr[j], li[j], real, -imaginary);
      }
    }
    if (FOLD) {
      V d[A];
#pragma GCC unroll 8
      for (int j = 0; j < A; j++) d[j] = lr[j] * im[j] - li[j] * re[j];
#pragma GCC unroll 3
      for (int k = K - 1; k >= 0; k--)
#pragma GCC unroll 4
        for (int j = 0; j < 1 << k; j++) {
          mz[k] += d[j] - d[j + (1 << k)];
          d[j] += d[j + (1 << k)];
        }
      tree[group] = d[0];
    }
#pragma GCC unroll 3
    for (int k = 0; k < K; k++)
#pragma GCC unroll 8
      for (int j = 0; j < A; j++)
        if (!(j >> k & 1)) add_moment(mx[k], my[k], re, im, lr, li, j, j | 1 << k);
#pragma GCC unroll 3
    for (int k = 0; k < K; k++)
#pragma GCC unroll 8
      for (int j = 0; j < A; j++)
        if (!(j >> k & 1)) {
          const int o = j | 1 << k;
          turn_pair(re[j], re[o], t[k].cosine, t[k].sine);
          turn_pair(im[j], im[o], t[k].cosine, t[k].sine);
          turn_pair(lr[j], lr[o], t[k].cosine, t[k].sine);
          turn_pair(li[j], li[o], t[k].cosine, t[k].sine);
        }
#pragma GCC unroll 8
    for (int j = 0; j < A; j++) {
      const int64_t i = base + offset.at[j];
      state[2 * i] = re[j], state[2 * i + 1] = im[j];
      image[2 * i] = lr[j], image[2 * i + 1] = li[j];
    }
  }
#pragma GCC unroll 3
  for (int k = 0; k < K; k++) {
    moments[k].x = mx[k], moments[k].y = my[k];
    if (FOLD) moments[k].z = mz[k];
  }
}

// Takes phases off a state and its image.
template <class V>
static void unphase(V* state, V* image, int64_t count, const Phases<V>& phases) {
  for (int64_t i = 0; i < count; i++) {
    V real, imaginary;
    phase_at(phases, i, real, imaginary);
    multiply(state[2 * i], state[2 * i + 1], real, -imaginary);
    multiply(image[2 * i], image[2 * i + 1], real, -imaginary);
  }
}

// +1 in the lanes whose index has bit K unset, -1 in the others.
template <class V>
INLINE V lane_sign(int bit) {
  V v{};
  for (int i = 0; i < Of<V>::W; i++) v[i] = i >> bit & 1 ? -1 : 1;
  return v;
}

// The gates of the qubits that are lanes, in the form s' = A s + B swap(s).
template <class V>
struct LaneGates {
  V ar[Of<V>::LOG], ai[Of<V>::LOG], br[Of<V>::LOG], bi[Of<V>::LOG];
  unsigned active;

  void set(int bit, const Su2<V>& g) {
    const V sign = lane_sign<V>(bit);
    ar[bit] = g.ar, ai[bit] = g.ai * sign, br[bit] = -g.br * sign, bi[bit] = g.bi;
  }
};

template <class V, int BIT>
INLINE void rotate_lanes(V& re, V& im, const LaneGates<V>& g) {
  const V pr = swap_lanes<1 << BIT>(re), pi = swap_lanes<1 << BIT>(im);
  const V x = g.ar[BIT] * re - g.ai[BIT] * im + g.br[BIT] * pr - g.bi[BIT] * pi;
  const V y = g.ar[BIT] * im + g.ai[BIT] * re + g.br[BIT] * pi + g.bi[BIT] * pr;
  re = x, im = y;
}

template <class V>
INLINE void rotate_lanes(V& re, V& im, const LaneGates<V>& g) {
  if (g.active & 1) rotate_lanes<V, 0>(re, im, g);
  if constexpr (Of<V>::LOG > 1)
    if (g.active & 2) rotate_lanes<V, 1>(re, im, g);
  if constexpr (Of<V>::LOG > 2)
    if (g.active & 4) rotate_lanes<V, 2>(re, im, g);
  if constexpr (Of<V>::LOG > 3)
    if (g.active & 8) rotate_lanes<V, 3>(re, im, g);
}

template <class V, bool SIGNED>
static void apply_lanes(V* state, int64_t count, const LaneGates<V>& gates, const Signs<V>& signs) {
  const LaneGates<V> g = gates;
  for (int64_t i = 0; i < count; i++) {
    V re = state[2 * i], im = state[2 * i + 1];
    if (SIGNED) {
      const auto mask = signs.masks[signs.index[i]];
      re = flip(re, mask), im = flip(im, mask);
    }
    rotate_lanes(re, im, g);
    state[2 * i] = re, state[2 * i + 1] = im;
  }
}

template <class V, int BIT>
INLINE void lane_moment(V re, V im, V lr, V li, Moment<V>* m) {
  const V pr = swap_lanes<1 << BIT>(re), pi = swap_lanes<1 << BIT>(im);
  m[BIT].x += lr * pi;
  m[BIT].x -= li * pr;
  m[BIT].y += lr * pr;
  m[BIT].y += li * pi;
}

// The counterpart of `unapply` for lanes. moments[b].x and .y are still spread over lanes, .y without the
// sign of the lane.
template <class V, bool SIGNED, bool APPLY>
static void unapply_lanes(V* state, V* image, int64_t count, const LaneGates<V>& gates, const Signs<V>& signs,
                          Moment<V>* moments) {
  constexpr int LOG = Of<V>::LOG;
  const LaneGates<V> g = gates;
  Moment<V> m[LOG];
#pragma GCC unroll 4
  for (int b = 0; b < LOG; b++) m[b].x = m[b].y = V{};
  for (int64_t i = 0; i < count; i++) {
    V re = state[2 * i], im = state[2 * i + 1], lr = image[2 * i], li = image[2 * i + 1];
    if (SIGNED) {
      const auto mask = signs.masks[signs.index[i]];
      re = flip(re, mask), im = flip(im, mask), lr = flip(lr, mask), li = flip(li, mask);
    }
    lane_moment<V, 0>(re, im, lr, li, m);
    if constexpr (LOG > 1) lane_moment<V, 1>(re, im, lr, li, m);
    if constexpr (LOG > 2) lane_moment<V, 2>(re, im, lr, li, m);
    if constexpr (LOG > 3) lane_moment<V, 3>(re, im, lr, li, m);
    if (APPLY) {
      rotate_lanes(re, im, g);
      rotate_lanes(lr, li, g);
      state[2 * i] = re, state[2 * i + 1] = im;
      image[2 * i] = lr, image[2 * i + 1] = li;
    }
  }
#pragma GCC unroll 4
  for (int b = 0; b < LOG; b++) moments[b] = m[b];
}

// Real rotations of the qubits that are lanes: s' = cosine s + sine swap(s), with the sign of the lane in the sine.
template <class V>
struct LaneTurns {
  V cosine[Of<V>::LOG], sine[Of<V>::LOG];
  unsigned active;
};

template <class V, int BIT>
INLINE V turn_lane(V v, const LaneTurns<V>& t) {
  return t.cosine[BIT] * v + t.sine[BIT] * swap_lanes<1 << BIT>(v);
}

template <class V>
INLINE V turn_lanes(V v, const LaneTurns<V>& t) {
  if (t.active & 1) v = turn_lane<V, 0>(v, t);
  if constexpr (Of<V>::LOG > 1)
    if (t.active & 2) v = turn_lane<V, 1>(v, t);
  if constexpr (Of<V>::LOG > 2)
    if (t.active & 4) v = turn_lane<V, 2>(v, t);
  if constexpr (Of<V>::LOG > 3)
    if (t.active & 8) v = turn_lane<V, 3>(v, t);
  return v;
}

template <class V, bool PHASED>
static void turn_all_lanes(V* state, int64_t count, const LaneTurns<V>& turns, const Phases<V>& phases) {
  const LaneTurns<V> t = turns;
  for (int64_t i = 0; i < count; i++) {
    V re = state[2 * i], im = state[2 * i + 1];
    if (PHASED) {
      V real, imaginary;
      phase_at(phases, i, real, imaginary);
      multiply(re, im, real, imaginary);
    }
    state[2 * i] = turn_lanes(re, t), state[2 * i + 1] = turn_lanes(im, t);
  }
}

template <class V, bool PHASED>
static void unturn_all_lanes(V* state, V* image, int64_t count, const LaneTurns<V>& turns, const Phases<V>& phases,
                             Moment<V>* moments) {
  constexpr int LOG = Of<V>::LOG;
  const LaneTurns<V> t = turns;
  Moment<V> m[LOG];
#pragma GCC unroll 4
  for (int b = 0; b < LOG; b++) m[b].x = m[b].y = V{};
  for (int64_t i = 0; i < count; i++) {
    V re = state[2 * i], im = state[2 * i + 1], lr = image[2 * i], li = image[2 * i + 1];
    if (PHASED) {
      V real, imaginary;
      phase_at(phases, i, real, imaginary);
      multiply(re, im, real, -imaginary);
      multiply(lr, li, real, -imaginary);
    }
    lane_moment<V, 0>(re, im, lr, li, m);
    if constexpr (LOG > 1) lane_moment<V, 1>(re, im, lr, li, m);
    if constexpr (LOG > 2) lane_moment<V, 2>(re, im, lr, li, m);
    if constexpr (LOG > 3) lane_moment<V, 3>(re, im, lr, li, m);
    state[2 * i] = turn_lanes(re, t), state[2 * i + 1] = turn_lanes(im, t);
    image[2 * i] = turn_lanes(lr, t), image[2 * i + 1] = turn_lanes(li, t);
  }
#pragma GCC unroll 4
  for (int b = 0; b < LOG; b++) moments[b] = m[b];
}

template <class V>
static void apply_signs(V* state, int64_t count, const Signs<V>& signs) {
  for (int64_t i = 0; i < count; i++) {
    const auto mask = signs.masks[signs.index[i]];
    state[2 * i] = flip(state[2 * i], mask), state[2 * i + 1] = flip(state[2 * i + 1], mask);
  }
}

// A Pauli word on vector amplitudes: (P s)[i] = (odd ? 1j : 1) * rho(i) * s[i ^ x], rho(i) = +-1.
template <class V>
struct WordPlan {
  uint32_t high_x, high_z, low_x;
  int odd, minus;  // number of Y odd; the sign in front
  V rho;           // the part of rho that the lane decides
  typename Of<V>::I partner;
};

template <class V>
INLINE V word_sign(const WordPlan<V>& w, int64_t i) {
  return (__builtin_parity((uint32_t)i & w.high_z) ^ w.minus) ? -w.rho : w.rho;
}

template <class V>
INLINE V word_partner(const WordPlan<V>& w, V v) {
  return w.low_x ? shuffle(v, w.partner) : v;
}

// exp(-i angle P / 2) with the cosine and sine of half the angle.
template <class V>
static void apply_word(V* state, int64_t count, const WordPlan<V>& w, V cosine, V sine) {
  const uint32_t pivot = w.high_x ? 1u << (31 - __builtin_clz(w.high_x)) : 0;
  for (int64_t i = 0; i < count; i++) {
    if (i & pivot) continue;
    const int64_t j = i ^ w.high_x;
    const V ir = state[2 * i], ii = state[2 * i + 1], jr = state[2 * j], ji = state[2 * j + 1];
    const V si = sine * word_sign(w, i), sj = sine * word_sign(w, j);
    const V pr = word_partner(w, jr), pi = word_partner(w, ji);
    const V qr = word_partner(w, ir), qi = word_partner(w, ii);
    if (w.odd) {
      state[2 * j] = cosine * jr + sj * qr, state[2 * j + 1] = cosine * ji + sj * qi;
      state[2 * i] = cosine * ir + si * pr, state[2 * i + 1] = cosine * ii + si * pi;
    } else {
      state[2 * j] = cosine * jr + sj * qi, state[2 * j + 1] = cosine * ji - sj * qr;
      state[2 * i] = cosine * ir + si * pi, state[2 * i + 1] = cosine * ii - si * pr;
    }
  }
}

// Im <image|P|state> where IMAGINARY is set, else Re.
template <class V, bool IMAGINARY>
static V word_overlap(const V* image, const V* state, int64_t count, const WordPlan<V>& w) {
  V total{};
  for (int64_t i = 0; i < count; i++) {
    const int64_t j = i ^ w.high_x;
    const V pr = word_partner(w, state[2 * j]), pi = word_partner(w, state[2 * j + 1]);
    const V lr = image[2 * i], li = image[2 * i + 1];
    const V real = lr * pr + li * pi, imaginary = lr * pi - li * pr;
    total += word_sign(w, i) * (IMAGINARY ? (w.odd ? real : imaginary) : (w.odd ? -imaginary : real));
  }
  return total;
}

// image += factor P state.
template <class V>
static void add_word(V* image, const V* state, int64_t count, const WordPlan<V>& w, V factor) {
  for (int64_t i = 0; i < count; i++) {
    const int64_t j = i ^ w.high_x;
    const V f = factor * word_sign(w, i);
    const V pr = word_partner(w, state[2 * j]), pi = word_partner(w, state[2 * j + 1]);
    image[2 * i] += w.odd ? -f * pi : f * pr;
    image[2 * i + 1] += w.odd ? f * pr : f * pi;
  }
}

// The monomial matrix new[i] = 1j ** power[i] * old[source[i]], or its inverse, on single amplitudes.
template <class V>
static void apply_table(const V* from, V* to, int64_t count, const int32_t* source, const uint8_t* power,
                        int log_lanes, bool inverted) {
  typedef typename Of<V>::T T;
  if (log_lanes == 0) {
    for (int64_t i = 0; i < count; i++) {
      const int64_t a = inverted ? i : source[i], b = inverted ? source[i] : i;
      const V re = from[2 * a], im = from[2 * a + 1];
      const int turn = inverted ? (4 - power[i]) & 3 : power[i];
      to[2 * b] = turn == 0 ? re : turn == 1 ? -im : turn == 2 ? -re : im;
      to[2 * b + 1] = turn == 0 ? im : turn == 1 ? re : turn == 2 ? -im : -re;
    }
    return;
  }
  const int64_t width = Of<V>::W;
  const T* in = (const T*)from;
  T* out = (T*)to;
  for (int64_t i = 0; i < count * width; i++) {
    const int64_t a = inverted ? i : source[i], b = inverted ? source[i] : i;
    const T re = in[(a / width) * 2 * width + a % width], im = in[((a / width) * 2 + 1) * width + a % width];
    const int turn = inverted ? (4 - power[i]) & 3 : power[i];
    out[(b / width) * 2 * width + b % width] = turn == 0 ? re : turn == 1 ? -im : turn == 2 ? -re : im;
    out[((b / width) * 2 + 1) * width + b % width] = turn == 0 ? im : turn == 1 ? re : turn == 2 ? -im : -re;
  }
}

}  // namespace
