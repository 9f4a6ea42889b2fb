// Path-integral Monte Carlo of clamped Boltzmann machines: N spins in r slices of periodic imaginary time, weights
//
//     exp( sum over slices k of [ (beta / r) (sum J z z + sum b z) + K sum z_k z_k+1 ] ),
//
// where a pair of neighbouring slices that differ has exp(-2 K) = t = tanh(Gamma beta / r) times the weight of an
// equal one: t, not K, stays finite at Gamma = 0, where the slices of a spin are locked.
//
// A lane of the vectors is one read of one system, a Markov chain with a generator of its own: what it finds
// depends neither on its neighbours in the vector nor on threads.
//
// Source: M. Suzuki, Prog. Theor. Phys. 56, 1454 (1976); R. H. Swendsen, J.-S. Wang, Phys. Rev. Lett. 58, 86 (1987);
// world lines as chains of transfer matrices, own construction.

namespace {

typedef uint32_t UintF __attribute__((vector_size(QRL_BYTES)));

// xoshiro128+ (D. Blackman and S. Vigna, public domain) in each lane, seeded through splitmix64.
struct Streams {
  UintF s[4];

  static uint64_t mix(uint64_t& x) {
    uint64_t z = x += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  void seed(int lane, uint64_t seed, uint64_t system, uint64_t read) {
    uint64_t x = seed;
    x = mix(x) ^ system;
    x = mix(x) ^ read;
    for (int i = 0; i < 4; i += 2) {
      const uint64_t bits = mix(x);
      s[i][lane] = (uint32_t)bits, s[i + 1][lane] = (uint32_t)(bits >> 32);
    }
  }
  // Between 0 and 1, both excluded, in steps of 2^-24.
  INLINE VecF uniform() {
    const UintF result = s[0] + s[3], t = s[1] << 9;
    s[2] ^= s[0], s[3] ^= s[1], s[1] ^= s[2], s[0] ^= s[3], s[2] ^= t;
    s[3] = s[3] << 11 | s[3] >> 21;
    return __builtin_convertvector((IntF)(result >> 8), VecF) * 0x1p-24f + 0x1p-25f;
  }
};

// Odds beyond this power of e, 2e-9, are below the steps of the random numbers. Four of them in a row and the
// factors of the transfer matrix stay in the range of float.
constexpr float STEEPEST = 20.0f;
constexpr int RESCALED = 4;

// e^x with x limited to +-STEEPEST; relative error 1e-6.
INLINE VecF odds(VecF x) {
  x = x > STEEPEST ? all<VecF>(STEEPEST) : x;
  x = x < -STEEPEST ? all<VecF>(-STEEPEST) : x;
  const VecF y = x * 1.44269504f;
  const VecF shifted = y + Trig<float>::magic;
  const VecF r = y - (shifted - Trig<float>::magic);
  // 2^r on [-1/2, 1/2], least squares of the relative error, 8e-8.
  VecF p = r * 1.3267014e-3f + 9.6754595e-3f;
  p = p * r + 5.5507430e-2f;
  p = p * r + 2.4022122e-1f;
  p = p * r + 6.9314695e-1f;
  p = p * r + 1.0f;
  return (VecF)((UintF)p + ((UintF)shifted << 23));
}

struct Chains {
  static constexpr int W = Lanes<float>::W;
  typedef VecF V;
  typedef IntF I;

  const Anneal& request;
  const int n, r;
  const int64_t chains, blocks;
  int64_t bytes = 0;
  int status = QRL_OK;

  // What a thread works on. Spins are in a gauge of their own, the true ones are turn * z: turning all spins of a
  // lane over turns its biases in place of n r numbers.
  struct Work {
    V *z;            // (n, r)
    V *bias;         // (n,), 2 beta / r times the bias
    V *magnet;       // (n,), sums over slices
    V *field;        // (r,), log odds of up against down, then odds
    V *up[2], *down[2];  // (r,) each, messages by the spin of slice 0, +1 or -1
    I *z_sums, *zz_sums;
    float *coupling, *strength;  // by edge, 2 beta / r times the coupling; by neighbour, scaled
    V turn;
    Streams random;
    float t;         // weight of two neighbouring slices that differ, relative to equal ones
    float log_t;
  };

  explicit Chains(const Anneal& a)
      : request(a), n(a.n_spins), r(a.slices), chains(a.systems * a.reads), blocks((chains + W - 1) / W) {
    Carver count{nullptr};
    carve(count);
    bytes = count.used;
  }

  Work carve(Carver& c) const {
    Work w{};
    w.z = c.take<V>((int64_t)n * r);
    w.bias = c.take<V>(n);
    w.magnet = c.take<V>(n);
    w.field = c.take<V>(r);
    for (int s = 0; s < 2; s++) w.up[s] = c.take<V>(r), w.down[s] = c.take<V>(r);
    w.z_sums = c.take<I>(n);
    w.zz_sums = c.take<I>(request.n_edges);
    w.coupling = c.take<float>(request.n_edges);
    w.strength = c.take<float>(2 * request.n_edges);
    return w;
  }

  // ---- moves ----------------------------------------------------------------------------------------

  // Log odds of spin h in each slice from biases and neighbours.
  INLINE void local_fields(const Work& w, int h) const {
    const int first = request.first[h], last = request.first[h + 1];
    int k = 0;
    for (; k + 4 <= r; k += 4) {
      V a = w.bias[h], b = a, c = a, d = a;
      for (int e = first; e < last; e++) {
        const V* z = w.z + (int64_t)request.neighbours[e] * r + k;
        const V j = all<V>(w.strength[e]);
        a += j * z[0], b += j * z[1], c += j * z[2], d += j * z[3];
      }
      w.field[k] = a, w.field[k + 1] = b, w.field[k + 2] = c, w.field[k + 3] = d;
    }
    for (; k < r; k++) {
      V a = w.bias[h];
      for (int e = first; e < last; e++) a += w.strength[e] * w.z[(int64_t)request.neighbours[e] * r + k];
      w.field[k] = a;
    }
  }

  INLINE int before(int k) const { return k ? k - 1 : r - 1; }
  INLINE int behind(int k) const { return k + 1 < r ? k + 1 : 0; }

  static INLINE V sign(I up) { return up ? all<V>(1.0f) : all<V>(-1.0f); }

  // Draws the whole world line of a spin from its distribution given the other spins: slice 0 from the weights of
  // the closed chain, then each slice given the one before it and slice 0.
  void draw_worldline(Work& w, int h) const {
    local_fields(w, h);
    const float t = w.t;
    // Weights of the slices behind k, summed over, by the spins of slice k and slice 0.
    V up_up = all<V>(1.0f), down_up = all<V>(t), up_down = all<V>(t), down_down = all<V>(1.0f);
    for (int k = r - 1;; k--) {
      const V odd = odds(w.field[k]);
      up_up *= odd, up_down *= odd;
      w.up[0][k] = up_up, w.down[0][k] = down_up, w.up[1][k] = up_down, w.down[1][k] = down_down;
      if (k == 0) break;
      V next = up_up + t * down_up;
      down_up = t * up_up + down_up;
      up_up = next;
      next = up_down + t * down_down;
      down_down = t * up_down + down_down;
      up_down = next;
      if (k % RESCALED == 0) {
        const V scale = 1.0f / (up_up + down_up + up_down + down_down);
        up_up *= scale, down_up *= scale, up_down *= scale, down_down *= scale;
      }
    }
    V* z = w.z + (int64_t)h * r;
    const I closed = w.random.uniform() * (up_up + down_down) < up_up;
    V spin = sign(closed), sum = spin;
    z[0] = spin;
    for (int k = 1; k < r; k++) {
      const V u = w.random.uniform();
      const V up = closed ? w.up[0][k] : w.up[1][k], down = closed ? w.down[0][k] : w.down[1][k];
      // Both answers, so that only the choice waits for the slice before.
      const V after_up = sign(u * (up + t * down) < up), after_down = sign(u * (t * up + down) < t * up);
      spin = spin > 0.0f ? after_up : after_down;
      z[k] = spin;
      sum += spin;
    }
    w.magnet[h] = sum;
  }

  // Swendsen-Wang along imaginary time: equal neighbouring slices are joined with probability 1 - t, and each
  // segment draws its spin given the other spins.
  void draw_clusters(Work& w, int h) const {
    local_fields(w, h);
    V *z = w.z + (int64_t)h * r, *chosen = w.up[1];
    I* joined = (I*)w.up[0];  // slice k and the next one
    I whole = ~I{};
    for (int k = 0; k < r; k++) {
      joined[k] = (z[k] == z[behind(k)]) & (w.random.uniform() >= w.t);
      whole &= joined[k];
    }
    joined[r - 1] &= ~whole;  // a line in one piece is cut anywhere
    V sum{};
    for (int k = 0; k < r; k++) sum = joined[before(k)] ? sum + w.field[k] : w.field[k];
    for (int k = 0; k < r; k++) {  // the last segment may go on at the start: once more, from its sum
      sum = joined[before(k)] ? sum + w.field[k] : w.field[k];
      const V odd = odds(sum);
      chosen[k] = sign(w.random.uniform() * (1.0f + odd) < odd);  // right at the last slice of a segment
    }
    V spin = chosen[0];
    for (int k = r - 1; k >= 0; k--) spin = joined[k] ? spin : chosen[k];
    V total{};
    for (int k = r - 1; k >= 0; k--) {
      spin = joined[k] ? spin : chosen[k];
      z[k] = spin;
      total += spin;
    }
    w.magnet[h] = total;
  }

  // One slice after the other, given all other spins.
  void draw_spins(Work& w, int h) const {
    local_fields(w, h);
    V *z = w.z + (int64_t)h * r, total{};
    for (int k = 0; k < r; k++) {
      V x = w.field[k];
      if (r > 1) x -= w.log_t * (z[before(k)] + z[behind(k)]);
      const V odd = odds(x);
      z[k] = sign(w.random.uniform() * (1.0f + odd) < odd);
      total += z[k];
    }
    w.magnet[h] = total;
  }

  void sweep(Work& w) const {
    for (int h = 0; h < n; h++)
      request.update == QRL_WORLDLINE ? draw_worldline(w, h)
      : request.update == QRL_CLUSTER ? draw_clusters(w, h)
                                      : draw_spins(w, h);
    // All spins at once: couplings stay as they are.
    V x{};
    for (int h = 0; h < n; h++) x += w.bias[h] * w.magnet[h];
    const V odd = odds(x);
    const V turn = sign(w.random.uniform() * (1.0f + odd) < odd);
    for (int h = 0; h < n; h++) w.bias[h] *= turn;
    w.turn *= turn;
  }

  // ---- ensembles ------------------------------------------------------------------------------------

  // Sum over slices of z z for an edge.
  INLINE V overlap(const Work& w, int64_t edge) const {
    const V *a = w.z + (int64_t)request.edges[2 * edge] * r, *b = w.z + (int64_t)request.edges[2 * edge + 1] * r;
    V even{}, odd{};
    int k = 0;
    for (; k + 2 <= r; k += 2) even += a[k] * b[k], odd += a[k + 1] * b[k + 1];
    if (k < r) even += a[k] * b[k];
    return even + odd;
  }

  void set_ensemble(Work& w, double field, double scale) const {
    w.t = (float)__builtin_tanh(field * request.beta / r);
    w.log_t = w.t > 1e-9f ? __builtin_logf(w.t) : -STEEPEST;
    for (int64_t e = 0; e < 2 * request.n_edges; e++)
      w.strength[e] = (float)(scale * w.coupling[request.neighbour_edges[e]]);
  }

  void measure(Work& w) const {
    for (int h = 0; h < n; h++) w.z_sums[h] += __builtin_convertvector(w.turn * w.magnet[h], I);
    for (int64_t e = 0; e < request.n_edges; e++) w.zz_sums[e] += __builtin_convertvector(overlap(w, e), I);
  }

  void run_block(Work& w, int64_t block) const {
    const int64_t first = block * W;
    const int valid = (int)(chains - first < W ? chains - first : W);
    const double unit = 2 * request.beta / r;
    for (int l = 0; l < W; l++) {
      const int64_t chain = first + (l < valid ? l : 0);
      const int64_t system = chain / request.reads;
      w.random.seed(l, request.seed, (uint64_t)system, (uint64_t)(chain % request.reads));
      for (int h = 0; h < n; h++) w.bias[h][l] = (float)(unit * request.biases[system * n + h]);
    }
    for (int64_t e = 0; e < request.n_edges; e++)
      w.coupling[e] = (float)(unit * request.couplings[e]), w.zz_sums[e] = I{};
    for (int h = 0; h < n; h++) w.z_sums[h] = I{};
    for (int64_t i = 0; i < (int64_t)n * r; i++) w.z[i] = all<V>(1.0f);
    w.turn = all<V>(1.0f);
    // Without couplings world lines are independent, and one of each is an exact draw.
    set_ensemble(w, request.fields[0], 0.0);
    for (int h = 0; h < n; h++) draw_worldline(w, h);
    double weights[W] = {};
    for (int64_t step = 0; step < request.steps; step++) {
      if (request.weights) {
        V work{};
        for (int64_t e = 0; e < request.n_edges; e++) work += w.coupling[e] * overlap(w, e);
        const double rise = request.scales[step] - (step ? request.scales[step - 1] : 0.0);
        for (int l = 0; l < W; l++) weights[l] += 0.5 * rise * (double)work[l];
      }
      set_ensemble(w, request.fields[step], request.scales[step]);
      for (int64_t s = 0; s < request.sweeps_a_step; s++) sweep(w);
    }
    for (int64_t s = 0; s < request.sweeps; s++) sweep(w), measure(w);
    for (int l = 0; l < valid; l++) {
      const int64_t chain = first + l;
      if (request.z)
        for (int h = 0; h < n; h++) request.z[chain * n + h] = w.z_sums[h][l];
      if (request.zz)
        for (int64_t e = 0; e < request.n_edges; e++) request.zz[chain * request.n_edges + e] = w.zz_sums[e][l];
      if (request.weights) request.weights[chain] = weights[l];
    }
  }

  static void body(void* context, int64_t first, int64_t last, int) {
    Chains& self = *(Chains*)context;
    char* memory = (char*)scratch(self.bytes);
    if (!memory) {
      self.status = QRL_NO_MEMORY;
      return;
    }
    Carver c{memory};
    Work w = self.carve(c);
    for (int64_t b = first; b < last; b++) self.run_block(w, b);
  }
};

int anneal(const Anneal* request) {
  Chains chains(*request);
  parallel(request->threads < 1 ? 1 : request->threads, chains.blocks, Chains::body, &chains);
  return chains.status;
}

}  // namespace
