/* What the parts of the native step share: an operation, the program that holds them, and activations on a
 * register of features at a time. The parts are pasted into `step.c` one after another, so none of them includes another.
 */
#include "vectors.h"

#include <stdatomic.h>

enum { EMBED, ADD_ROW, NORM, LINEAR, GATED, ROTATE, ATTEND, SUM };
enum { LINEAR_ACT, RELU, GELU, GELU_TANH, SILU, RELU2 };
enum { LAYERNORM, RMSNORM, DYT };

/* Buffers are [rows][features]; n and seg_rows count features of one row. */
typedef struct {
  int32_t kind, mode, n, size, heads, kv_heads, window, flag;
  int32_t seg_rows[3], capacity, each, unused;
  float a, b, c, d;
  int64_t step; /* from one row's table of positions to the next row's; 0: one for all */
  const float *src, *src2, *bias_table, *cos, *sin;
  const float *w[3], *bias[3];
  float *dst[3];
  float *k, *v;
  const int64_t *index;
  const int32_t *span; /* [rows][2]: first key that a row sees, and the one behind its last */
} Op;

typedef struct {
  const Op *op;
  int32_t chunks;
} Shared;

typedef struct {
  Op *ops;
  int32_t count, threads, rows;
  const int64_t *tokens; /* the rows' newest */
  int64_t time;          /* how many keys came before them */
  int64_t longest;       /* keys that there can be */
  const int32_t *origin; /* [rows]: whose tables, spans and memory a row uses; null: its own */
  const int32_t *where;  /* [rows][longest]: which row of the cache holds a row's key of that time; null: its own */
  float *scores;         /* [threads][longest] */
  float *panel;          /* the rows side by side, features one after another: what products of many rows read */
  _Atomic uint64_t claim; /* sequence number << 32 | next chunk */
  _Atomic uint32_t sequence, finished;
  _Atomic int active, quit;
  Shared shared[4]; /* by sequence number: a late thread still finds what its number meant */
  struct Worker *pool;
  pthread_mutex_t lock;
  pthread_cond_t wake;
} Program;

INLINE V some(const float *p, int64_t count) {
  V v = {0};
  memcpy(&v, p, (count < LANES ? count : LANES) * sizeof(float));
  return v;
}

INLINE void put(float *p, V v, int64_t count) {
  if (count >= LANES) store(p, v);
  else memcpy(p, &v, count * sizeof(float));
}

INLINE V take(const float *p, int64_t count) { return count >= LANES ? load(p) : some(p, count); }
INLINE V absolute(V x) { return (V)((I)x & 0x7fffffff); }
INLINE V clamped(V x, float low, float high) {
  x = pick(x < all(low), all(low), x);
  return pick(x > all(high), all(high), x);
}

INLINE V sigmoid(V x) {
  const V e = exponential(-absolute(x)); /* cannot overflow */
  return pick(x > all(0), all(1), e) / (1 + e);
}

/* Cephes' tanhf: error under 3 units in the last place. */
INLINE V tanh_of(V x) {
  const V size = absolute(x), z = x * x, e = exponential(-2 * size);
  V p = all(-5.70498872745e-3f);
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const V far = (1 - e) / (1 + e);
  return pick(size < all(0.625f), p * z * x + x, pick(x < all(0), -far, far));
}

/* x P(x^2) / Q(x^2) within 4 of 0, beyond which it is 1: absolute error under 3e-7. Coefficients: Eigen's. */
INLINE V erf_of(V x) {
  const V y = clamped(x, -4, 4), z = y * y;
  V p = all(-2.72614225801306e-10f), q = all(-1.45660718464996e-05f);
  p = p * z + 2.77068142495902e-08f;
  p = p * z - 2.10102402082508e-06f;
  p = p * z - 5.69250639462346e-05f;
  p = p * z - 7.34990630326855e-04f;
  p = p * z - 2.95459980854025e-03f;
  p = p * z - 1.60960333262415e-02f;
  q = q * z - 2.13374055278905e-04f;
  q = q * z - 1.68282697438203e-03f;
  q = q * z - 7.37332916720468e-03f;
  q = q * z - 1.42647390514189e-02f;
  return pick(absolute(x) >= all(4), pick(x < all(0), all(-1), all(1)), y * p / q);
}

INLINE V activated(V x, int act) {
  switch (act) {
    case RELU: return pick(x > all(0), x, all(0));
    case GELU: return 0.5f * x * (1 + erf_of(x * 0.70710678f));
    case GELU_TANH: return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x)); /* (1 + tanh u) / 2 = sigmoid 2u */
    case SILU: return x * sigmoid(x);
    case RELU2: return pick(x > all(0), x * x, all(0));
    default: return x;
  }
}
