/* Eigenvalues of A A^T in double precision, for many float matrices A; a thread each.
 *
 *     G = A A^T          tiles of registers; of a lower triangular A the products with zeros are left out
 *     G -> T             Householder reflections, the last row first; NB of them before G itself is changed
 *                        (LAPACK's dlatrd: Dongarra, Hammarling & Sorensen 1989)
 *     T -> values        QL without square roots (LAPACK's dsterf: Pal, Walker & Kahan)
 *
 * Half of T's arithmetic is G v, bound by the cache that G comes from: of G only the lower blocks of LANES x LANES are
 * kept, each read once and used for both halves of the product. Vectors lie in groups of LANES; what lies in the last
 * group beyond a vector's end is 0. V and W, the reflections and their products, are [group][2 NB][LANES].
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "threads.h"

/* Registers of fewer doubles make this slower than LAPACK: there it shall not compile, and LAPACK serves. */
#if defined __AVX512F__
#define LANES 8
#elif defined __AVX2__ && defined __FMA__
#define LANES 4
#else
#error "needs AVX2 and FMA, or AVX-512"
#endif
#define NB 8      /* reflections between two changes of G */
#define DEEP 64   /* columns of A multiplied at once */
#define WIDE 3    /* groups of columns of a tile: with LANES rows, sums for 3/4 of the registers */
#define SWEEPS 30 /* of QL, for each value, before giving up */
#define PANEL (2 * NB * LANES)
#define INLINE static inline __attribute__((always_inline))
#define EACH_ROW _Pragma("GCC unroll 8") for (int r = 0; r < LANES; r++)
#define EACH_COLUMN _Pragma("GCC unroll 3") for (int w = 0; w < wide; w++)

typedef double V __attribute__((vector_size(LANES * 8), aligned(8), may_alias));

INLINE V load(const double *p) { return *(const V *)p; }
INLINE void store(double *p, V v) { *(V *)p = v; }
INLINE V all(double x) { return (V){0} + x; }
INLINE int64_t groups_of(int64_t n) { return (n + LANES - 1) / LANES; }

INLINE double sum_of(V v) {
  double x[LANES];
  memcpy(x, &v, sizeof v);
#if LANES == 8
  return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
#else
  return (x[0] + x[2]) + (x[1] + x[3]);
#endif
}

typedef struct {
  int64_t stride; /* between rows of G; an odd number of cache lines, so that rows do not fight over the same ones */
  double *g, *vw, *deep, *v, *p, *d, *e;
} Work;

/* sums[r][w] += sum over k of p[k][r] q_w[k], with q_w the w-th of the panels at q. */
INLINE void multiply(V sums[LANES][WIDE], const double *p, const double *q, int64_t panel, int64_t depth,
                     const int wide) {
  for (int64_t k = 0; k < depth; k++) {
    V right[WIDE];
    EACH_COLUMN right[w] = load(q + w * panel + k * LANES);
    EACH_ROW {
      const V left = all(p[k * LANES + r]);
      EACH_COLUMN sums[r][w] += left * right[w];
    }
  }
}

/* A tile of G: + P Q^T (sign 1), or - (V W^T + W V^T) (sign -1: of the other half of the panels). */
INLINE void tile(double *g, int64_t stride, const double *p, const double *q, int64_t panel, int64_t depth,
                 const int sign, const int wide) {
  V sums[LANES][WIDE];
  EACH_ROW EACH_COLUMN sums[r][w] = (V){0};
  if (sign > 0) multiply(sums, p, q, panel, depth, wide);
  else {
    multiply(sums, p, q + NB * LANES, panel, depth, wide);
    multiply(sums, p + NB * LANES, q, panel, depth, wide);
  }
  EACH_ROW EACH_COLUMN {
    double *at = g + r * stride + w * LANES;
    store(at, sign > 0 ? load(at) + sums[r][w] : load(at) - sums[r][w]);
  }
}

INLINE void tiles(double *g, int64_t stride, const double *p, const double *q, int64_t panel, int64_t depth,
                  const int sign, int64_t wide) {
  if (wide >= 3) tile(g, stride, p, q, panel, depth, sign, 3);
  else if (wide == 2) tile(g, stride, p, q, panel, depth, sign, 2);
  else tile(g, stride, p, q, panel, depth, sign, 1);
}

/* G's lower blocks from A [rows, columns]. */
static void gram(const Work *k, const float *a, int64_t rows, int64_t columns, int triangular) {
  const int64_t groups = groups_of(rows), panel = DEEP * LANES;
  memset(k->g, 0, groups * LANES * k->stride * sizeof(double));
  for (int64_t from = 0; from < columns; from += DEEP) {
    const int64_t depth = columns - from < DEEP ? columns - from : DEEP;
    const int64_t first = triangular ? from / LANES : 0; /* the rows above are 0 here */
    for (int64_t i = first; i < groups; i++) {
      double *to = k->deep + i * panel;
      for (int64_t r = 0; r < LANES; r++) {
        const float *row = a + (i * LANES + r) * columns + from;
        for (int64_t c = 0; c < depth; c++) to[c * LANES + r] = i * LANES + r < rows ? row[c] : 0;
      }
    }
    for (int64_t i = first; i < groups; i++)
      for (int64_t j = first; j <= i; j += WIDE) {
        const int64_t wide = i + 1 - j < WIDE ? i + 1 - j : WIDE, end = (j + wide) * LANES - from;
        tiles(k->g + i * LANES * k->stride + j * LANES, k->stride, k->deep + i * panel, k->deep + j * panel, panel,
              triangular && end < depth ? end : depth, 1, wide);
      }
  }
}

/* p = G v, over so many groups. */
static void symmetric_product(const double *g, int64_t stride, const double *v, double *p, int64_t groups) {
  memset(p, 0, groups * LANES * sizeof(double));
  for (int64_t i = 0; i < groups; i++, g += LANES * stride) {
    V across[LANES], each[LANES];
    EACH_ROW {
      across[r] = load(g + r * stride + i * LANES) * load(v + i * LANES);
      each[r] = all(v[i * LANES + r]);
    }
    for (int64_t j = 0; j < i; j++) {
      const V right = load(v + j * LANES);
      V down[2] = {load(p + j * LANES), {0}};
      EACH_ROW {
        const V x = load(g + r * stride + j * LANES);
        across[r] += x * right;
        down[r % 2] += x * each[r];
      }
      store(p + j * LANES, down[0] + down[1]);
    }
    EACH_ROW p[i * LANES + r] += sum_of(across[r]);
  }
}

/* x -= V w + W v, with w and v so many numbers of each. */
INLINE void subtract(double *x, const double *from, const double *vw, const double *w, const double *v, int64_t many,
                     int64_t groups) {
  for (int64_t i = 0; i < groups; i++, vw += PANEL) {
    V one = load(from + i * LANES), other = {0};
    for (int64_t s = 0; s < many; s++) {
      one -= w[s] * load(vw + s * LANES);
      other -= v[s] * load(vw + (NB + s) * LANES);
    }
    store(x + i * LANES, one + other);
  }
}

/* Reflection t of a block: row `last` of G becomes (0, ..., 0, e, d). */
static void reflect(const Work *k, int64_t last, int64_t t) {
  const double *vw = k->vw, *here = vw + last / LANES * PANEL + last % LANES;
  double *v = k->v, *p = k->p, w_of[NB], v_of[NB];
  int64_t groups = groups_of(last + 1);
  for (int64_t s = 0; s < t; s++) {
    v_of[s] = here[s * LANES];
    w_of[s] = here[(NB + s) * LANES];
  }
  subtract(v, k->g + last * k->stride, vw, w_of, v_of, t, groups);
  k->d[last] = v[last];
  if (last == 0) return;
  const double pivot = v[last - 1];
  for (int64_t i = last - 1; i < groups * LANES; i++) v[i] = 0;
  groups = groups_of(last);
  V squares = {0};
  for (int64_t i = 0; i < groups; i++) squares += load(v + i * LANES) * load(v + i * LANES);
  const double rest = sum_of(squares);
  if (rest == 0) { /* nothing to reflect: v and w are 0 */
    k->e[last - 1] = pivot;
    for (int64_t i = 0; i < groups; i++) {
      store(k->vw + i * PANEL + t * LANES, (V){0});
      store(k->vw + i * PANEL + (NB + t) * LANES, (V){0});
    }
    return;
  }
  const double e = -copysign(sqrt(pivot * pivot + rest), pivot), tau = (e - pivot) / e, scale = 1 / (pivot - e);
  for (int64_t i = 0; i < groups; i++) store(v + i * LANES, scale * load(v + i * LANES));
  v[last - 1] = 1;
  k->e[last - 1] = e;

  symmetric_product(k->g, k->stride, v, p, groups);
  for (int64_t s = 0; s < t; s++) {
    V ofs[2] = {{0}, {0}};
    for (int64_t i = 0; i < groups; i++) {
      const V x = load(v + i * LANES);
      ofs[0] += x * load(vw + i * PANEL + s * LANES);
      ofs[1] += x * load(vw + i * PANEL + (NB + s) * LANES);
    }
    v_of[s] = sum_of(ofs[0]);
    w_of[s] = sum_of(ofs[1]);
  }
  subtract(p, p, vw, w_of, v_of, t, groups);
  for (int64_t i = last; i < groups * LANES; i++) p[i] = 0; /* rows that are done */
  V along = {0};
  for (int64_t i = 0; i < groups; i++) along += load(p + i * LANES) * load(v + i * LANES);
  const double half = tau * tau / 2 * sum_of(along);
  for (int64_t i = 0; i < groups; i++) {
    const V x = load(v + i * LANES);
    store(k->vw + i * PANEL + t * LANES, x);
    store(k->vw + i * PANEL + (NB + t) * LANES, tau * load(p + i * LANES) - half * x);
  }
}

/* G to d and e, its diagonal and what lies beside it. */
static void tridiagonal(const Work *k, int64_t n) {
  while (n > 0) {
    const int64_t many = n < NB ? n : NB;
    for (int64_t t = 0; t < many; t++) reflect(k, n - 1 - t, t);
    n -= many;
    for (int64_t i = 0; i < groups_of(n); i++)
      for (int64_t j = 0; j <= i; j += WIDE)
        tiles(k->g + i * LANES * k->stride + j * LANES, k->stride, k->vw + i * PANEL, k->vw + j * PANEL, PANEL, many,
              -1, i + 1 - j);
  }
}

static void reverse(double *x, int64_t n) {
  for (int64_t i = 0; i < n / 2; i++) {
    const double other = x[n - 1 - i];
    x[n - 1 - i] = x[i];
    x[i] = other;
  }
}

/* Values into d, in any order; 0, or 1 where they do not converge. */
static int values_of(double *d, double *e, int64_t n) {
  double largest = 0;
  for (int64_t i = 0; i < n; i++) {
    const double size = fabs(d[i]) + (i + 1 < n ? fabs(e[i]) : 0);
    if (!(size <= DBL_MAX)) return 1;
    largest = fmax(largest, size);
  }
  /* An entry this far below rounding moves no value by more than rounding does. */
  const double least = largest * 0x1p-54 * (largest * 0x1p-54);
  if (fabs(d[n - 1]) < fabs(d[0])) { /* small ones first converge sooner */
    reverse(d, n);
    reverse(e, n - 1);
  }
  for (int64_t i = 0; i + 1 < n; i++) e[i] *= e[i];
  int64_t left = SWEEPS * n;
  for (int64_t l = 0; l < n;) {
    int64_t m = l;
    while (m + 1 < n && !(e[m] <= least)) m++;
    if (m == l) {
      l++;
      continue;
    }
    if (left-- == 0) return 1;
    const double root = sqrt(e[l]), apart = (d[l + 1] - d[l]) / (2 * root);
    const double shift = d[l] - root / (apart + copysign(sqrt(apart * apart + 1), apart));
    double c = 1, s = 0, gamma = d[m] - shift, p = gamma * gamma;
    for (int64_t i = m - 1; i >= l; i--) {
      const double beside = e[i], r = p + beside, before = gamma, c_before = c, a = d[i];
      if (i != m - 1) e[i + 1] = s * r;
      const double inverse = r / p; /* beside the other two quotients, not after them */
      c = p / r;
      s = beside / r;
      gamma = c * (a - shift) - s * before;
      d[i + 1] = before + (a - gamma);
      p = c != 0 ? gamma * gamma * inverse : c_before * beside;
    }
    e[l] = s * p;
    d[l] = shift + gamma;
  }
  return 0;
}

/* Eigenvalues of each A A^T, in any order, into values [count, rows]. Gives the number of matrices without an answer
 * (not finite, or no convergence), or -1 where memory is lacking. */
int64_t gram_values(const float *a, int64_t count, int64_t rows, int64_t columns, int triangular, double *values,
                    int threads) {
  const int64_t groups = groups_of(rows), padded = groups * LANES, stride = ((padded + 7) / 8 | 1) * 8;
  const int64_t room = padded * stride + groups * (PANEL + DEEP * LANES) + (3 * padded + 7) / 8 * 8;
  void *block = NULL;
  if (posix_memalign(&block, 64, threads * room * sizeof(double))) return -1;
  memset(block, 0, threads * room * sizeof(double));
  int64_t failed = 0;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1) reduction(+ : failed)
  for (int64_t i = 0; i < count; i++) {
    double *g = (double *)block + thread() * room, *vw = g + padded * stride, *deep = vw + groups * PANEL;
    double *v = deep + groups * DEEP * LANES, *d = values + i * rows;
    const Work work = {stride, g, vw, deep, v, v + padded, d, v + 2 * padded};
    gram(&work, a + i * rows * columns, rows, columns, triangular);
    tridiagonal(&work, rows);
    failed += values_of(d, work.e, rows);
  }
  free(block);
  return failed;
}
