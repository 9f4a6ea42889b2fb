// Vectors of the compiler's extension, and what the kernel needs on them: loads, lane permutations by XOR,
// sums, and sine and cosine.

namespace {

typedef float VecF __attribute__((vector_size(QRL_BYTES)));
typedef double VecD __attribute__((vector_size(QRL_BYTES)));
typedef int32_t IntF __attribute__((vector_size(QRL_BYTES)));
typedef int64_t IntD __attribute__((vector_size(QRL_BYTES)));

template <class T>
struct Lanes;

template <>
struct Lanes<float> {
  typedef VecF V;
  typedef IntF I;
  typedef int32_t S;
  static constexpr int W = QRL_BYTES / 4;
  static constexpr int LOG = QRL_BYTES == 64 ? 4 : QRL_BYTES == 32 ? 3 : 2;
};

template <>
struct Lanes<double> {
  typedef VecD V;
  typedef IntD I;
  typedef int64_t S;
  static constexpr int W = QRL_BYTES / 8;
  static constexpr int LOG = QRL_BYTES == 64 ? 3 : QRL_BYTES == 32 ? 2 : 1;
};

template <class V>
struct Of;
template <>
struct Of<VecF> : Lanes<float> {
  typedef float T;
};
template <>
struct Of<VecD> : Lanes<double> {
  typedef double T;
};

#define INLINE inline __attribute__((always_inline))

template <class V>
INLINE V all(typename Of<V>::T value) {
  return value - V{};
}

template <class T>
INLINE T load(const T* p) {
  return *p;
}

// Flips the sign of the lanes whose mask is the sign bit.
template <class V>
INLINE V flip(V v, typename Of<V>::I mask) {
  return (V)((typename Of<V>::I)v ^ mask);
}

template <class V, class I>
INLINE V shuffle(V v, I lanes) {
#ifdef __clang__
  V moved;
  for (int i = 0; i < Of<V>::W; i++) moved[i] = v[lanes[i]];
  return moved;
#else
  return __builtin_shuffle(v, lanes);
#endif
}

// The lanes at index ^ BIT.
template <int BIT>
INLINE VecF swap_lanes(VecF v) {
  IntF mask;
  for (int i = 0; i < Lanes<float>::W; i++) mask[i] = i ^ BIT;
  return shuffle(v, mask);
}

template <int BIT>
INLINE VecD swap_lanes(VecD v) {
  IntD mask;
  for (int i = 0; i < Lanes<double>::W; i++) mask[i] = i ^ BIT;
  return shuffle(v, mask);
}

// The sum over lanes, pairwise.
INLINE float sum(VecF v) {
  if (Lanes<float>::LOG > 0) v = v + swap_lanes<1>(v);
  if (Lanes<float>::LOG > 1) v = v + swap_lanes<2>(v);
  if (Lanes<float>::LOG > 2) v = v + swap_lanes<4>(v);
  if (Lanes<float>::LOG > 3) v = v + swap_lanes<8>(v);
  return v[0];
}

INLINE double sum(VecD v) {
  if (Lanes<double>::LOG > 0) v = v + swap_lanes<1>(v);
  if (Lanes<double>::LOG > 1) v = v + swap_lanes<2>(v);
  if (Lanes<double>::LOG > 2) v = v + swap_lanes<4>(v);
  return v[0];
}

INLINE float sum(float v) { return v; }
INLINE double sum(double v) { return v; }

// Constants of sine and cosine after the reduction x = k pi / 2 + r: pi / 2 in parts whose multiples are
// exact, and the minimax polynomials of the Cephes library (S. L. Moshier, sinf.c and sin.c).
template <class T>
struct Trig;

template <>
struct Trig<float> {
  static constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  static constexpr float two_over_pi = 0.636619772367581343f;
  static constexpr float half_pi_a = 1.5703125f, half_pi_b = 4.837512969970703125e-4f,
                         half_pi_c = 7.54978995489188e-8f;
  static constexpr float limit = 8192.0f;
  static constexpr float sine(float, int k) {
    return k == 0 ? -1.9515295891e-4f : k == 1 ? 8.3321608736e-3f : -1.6666654611e-1f;
  }
  static constexpr float cosine(float, int k) {
    return k == 0 ? 2.443315711809948e-5f : k == 1 ? -1.388731625493765e-3f : 4.166664568298827e-2f;
  }
  static constexpr int sines = 3, cosines = 3;
};

template <>
struct Trig<double> {
  static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double two_over_pi = 0.636619772367581343075535053490057448;
  static constexpr double half_pi_a = 1.57079625129699707031, half_pi_b = 7.54978941586159635335e-8,
                          half_pi_c = 5.39030285815811905290e-15;
  static constexpr double limit = 1e5;
  static constexpr double sine(double, int k) {
    return k == 0   ? 1.58962301576546568060e-10
           : k == 1 ? -2.50507477628578072866e-8
           : k == 2 ? 2.75573136213857245213e-6
           : k == 3 ? -1.98412698295895385996e-4
           : k == 4 ? 8.33333333332211858878e-3
                    : -1.66666666666666307295e-1;
  }
  static constexpr double cosine(double, int k) {
    return k == 0   ? -1.13585365213876817300e-11
           : k == 1 ? 2.08757008419747316778e-9
           : k == 2 ? -2.75573141792967388112e-7
           : k == 3 ? 2.48015872888517045348e-5
           : k == 4 ? -1.38888888888730564116e-3
                    : 4.16666666666665929218e-2;
  }
  static constexpr int sines = 6, cosines = 6;
};

INLINE float sin_of(float x) { return __builtin_sinf(x); }
INLINE double sin_of(double x) { return __builtin_sin(x); }
INLINE float cos_of(float x) { return __builtin_cosf(x); }
INLINE double cos_of(double x) { return __builtin_cos(x); }
INLINE float tanh_of(float x) { return __builtin_tanhf(x); }
INLINE double tanh_of(double x) { return __builtin_tanh(x); }
INLINE float arctan_of(float x) { return __builtin_atanf(x); }
INLINE double arctan_of(double x) { return __builtin_atan(x); }

// Sines and cosines of `count` vectors, each to about one unit in the last place.
template <class V>
static void sines_cosines(const V* angles, V* sines, V* cosines, int count) {
  typedef typename Of<V>::T T;
  typedef typename Of<V>::I I;
  typedef Trig<T> K;
  I outside{};
  for (int at = 0; at < count; at++) {
    const V x = angles[at];
    const V size = x < T(0) ? -x : x;
    const I small = size <= K::limit;
    const V shifted = x * K::two_over_pi + K::magic;
    const V k = shifted - K::magic;
    const I quadrant = (I)shifted;
    V r = x - k * K::half_pi_a;
    r = r - k * K::half_pi_b;
    r = r - k * K::half_pi_c;
    const V z = r * r;
    V s = all<V>(K::sine(T(0), 0)), c = all<V>(K::cosine(T(0), 0));
#pragma GCC unroll 8
    for (int i = 1; i < K::sines; i++) s = s * z + K::sine(T(0), i);
#pragma GCC unroll 8
    for (int i = 1; i < K::cosines; i++) c = c * z + K::cosine(T(0), i);
    s = s * (z * r) + r;
    c = c * (z * z) + (T(1) - z * T(0.5));
    const I odd = (quadrant & 1) != 0;
    V sine = odd ? c : s;
    V cosine = odd ? s : c;
    sine = (quadrant & 2) != 0 ? -sine : sine;
    cosine = ((quadrant + 1) & 2) != 0 ? -cosine : cosine;
    sines[at] = sine;
    cosines[at] = cosine;
    outside |= !small;
  }
  bool any = false;  // a large, infinite or undefined angle
  for (int i = 0; i < Of<V>::W; i++) any |= outside[i] != 0;
  if (__builtin_expect(any, 0)) {
    const int n = count * Of<V>::W;
    const T* x = (const T*)angles;
    for (int i = 0; i < n; i++) {
      if (x[i] <= K::limit && -x[i] <= K::limit) continue;
      ((T*)sines)[i] = sin_of(x[i]);
      ((T*)cosines)[i] = cos_of(x[i]);
    }
  }
}

// Square roots; a loop over an array is what compilers turn into a vector instruction.
INLINE float root(float x) { return __builtin_sqrtf(x); }
INLINE double root(double x) { return __builtin_sqrt(x); }
template <class V>
INLINE V root(V x) {
  typename Of<V>::T part[Of<V>::W] __attribute__((aligned(64)));
  *(V*)part = x;
  for (int i = 0; i < Of<V>::W; i++) part[i] = root(part[i]);
  return *(V*)part;
}

INLINE float tanh_each(float x) { return tanh_of(x); }
INLINE double tanh_each(double x) { return tanh_of(x); }
INLINE float arctan_each(float x) { return arctan_of(x); }
INLINE double arctan_each(double x) { return arctan_of(x); }
template <class V>
INLINE V tanh_each(V x) {
  for (int i = 0; i < Of<V>::W; i++) x[i] = tanh_of(x[i]);
  return x;
}
template <class V>
INLINE V arctan_each(V x) {
  for (int i = 0; i < Of<V>::W; i++) x[i] = arctan_of(x[i]);
  return x;
}

}  // namespace
