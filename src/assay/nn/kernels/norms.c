/* LayerNorm and RMSNorm of alpha x + f over rows of n floats, forward and backward, one pass through memory each.
 *
 *     t = alpha x + f          (f and alpha may be absent)
 *     u = (t - mean) / sqrt(var + eps)   or   t / sqrt(mean of squares + eps)
 *     y = u g + b              (g and b may be absent)
 *
 * A row is read once from memory, stays in the first cache for the passes over it, and is written once. Large
 * results are written past the caches (streaming stores), since an ordinary store reads its line first.
 */
#include "vectors.h"

#define BLOCK 4 /* rows that the backward pass takes together */

/* Ask for what the next rows begin with while these are written; beyond the end, nothing comes of it. */
INLINE void ask(const float *p) { __builtin_prefetch(p, 0, 2); }

INLINE void put(float *p, V v, int stream) {
#if LANES == 16 && defined(__AVX512F__)
  if (stream) { _mm512_stream_ps(p, (__m512)v); return; }
#elif LANES == 8 && defined(__AVX__)
  if (stream) { _mm256_stream_ps(p, (__m256)v); return; }
#endif
  (void)stream;
  *(V *)p = v;
}

INLINE float sum_in_order(V v) {
  float total = 0;
  for (int i = 0; i < LANES; i++) total += v[i];
  return total;
}

static void fence(int stream) {
#if defined(__AVX512F__) || defined(__AVX__)
  if (stream) _mm_sfence();
#else
  (void)stream;
#endif
}

/* Reads a register of t = alpha x + f at j. */
INLINE V mixed(const float *x, const float *f, float alpha, int64_t j) {
  V v = load(x + j);
  if (f) v = v * alpha + load(f + j);
  return v;
}

INLINE void forward_row(const float *x, const float *f, float alpha, const float *g, const float *b, float *y,
                        float *total, float *mean_out, float *rstd_out, float *row, int64_t n, float eps,
                        const int centre, const int add, int stream) {
  const int64_t whole = n & ~(int64_t)(LANES - 1), pairs = n & ~(int64_t)(2 * LANES - 1);
  const float *t = add ? row : x;
  V p = {0}, q = {0};
  float sum = 0, square = 0, mean = 0;
  int64_t j;
  if (add || centre) {
    for (j = 0; j < pairs; j += 2 * LANES) {
      V v = mixed(x, add ? f : NULL, alpha, j), w = mixed(x, add ? f : NULL, alpha, j + LANES);
      if (add) { *(V *)(row + j) = v; *(V *)(row + j + LANES) = w; }
      p += v;
      q += w;
    }
    for (; j < whole; j += LANES) {
      V v = mixed(x, add ? f : NULL, alpha, j);
      if (add) *(V *)(row + j) = v;
      p += v;
    }
    sum = sum_in_order(p + q);
    for (; j < n; j++) {
      float v = add ? alpha * x[j] + f[j] : x[j];
      if (add) row[j] = v;
      sum += v;
    }
    p = q = (V){0};
  }
  if (centre) mean = sum / n;
  for (j = 0; j < pairs; j += 2 * LANES) {
    V v = load(t + j) - mean, w = load(t + j + LANES) - mean;
    p += v * v;
    q += w * w;
  }
  for (; j < whole; j += LANES) { V v = load(t + j) - mean; p += v * v; }
  square = sum_in_order(p + q);
  for (; j < n; j++) square += (t[j] - mean) * (t[j] - mean);
  const float rstd = 1 / sqrtf(square / n + eps);
  for (j = 0; j < whole; j += LANES) {
    V v = load(t + j);
    ask(x + n + j);
    if (add) ask(f + n + j);
    if (total) put(total + j, v, stream);
    v = (v - mean) * rstd;
    if (g) v *= load(g + j);
    if (b) v += load(b + j);
    put(y + j, v, stream);
  }
  for (; j < n; j++) {
    if (total) total[j] = t[j];
    y[j] = (t[j] - mean) * rstd * (g ? g[j] : 1) + (b ? b[j] : 0);
  }
  *mean_out = mean;
  *rstd_out = rstd;
}

/* y [rows, n], mean and rstd [rows]; total [rows, n] or NULL receives alpha x + f. alpha: one float, or NULL for 1. */
void norm_forward(const float *x, const float *f, const float *alpha, const float *g, const float *b, float *y,
                  float *total, float *mean, float *rstd, int64_t rows, int64_t n, float eps, int centre, int stream,
                  int threads) {
  const float a = alpha ? *alpha : 1;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    float *row = f ? malloc(n * sizeof(float) + 64) : NULL;
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
      const int64_t at = r * n;
#define ROW(CENTRE, ADD)                                                                                       \
  forward_row(x + at, (ADD) ? f + at : NULL, a, g, b, y + at, total ? total + at : NULL, mean + r, rstd + r, row, n, \
              eps, CENTRE, ADD, stream)
      if (centre) { if (f) ROW(1, 1); else ROW(1, 0); }
      else { if (f) ROW(0, 1); else ROW(0, 0); }
#undef ROW
    }
    fence(stream);
    free(row);
  }
}

/* COUNT rows together, so that the sums for g and b over rows are loaded and stored once for all of them. */
INLINE void backward_rows(const float *x, const float *f, float alpha, const float *g, const float *dy,
                          const float *dtotal, const float *mean, const float *rstd, float *dx, float *df, float *dg,
                          float *db, int64_t n, const int count, const int centre, const int add, int stream) {
  const int64_t whole = n & ~(int64_t)(LANES - 1);
  V p[BLOCK] = {0}, q[BLOCK] = {0};
  float a[BLOCK], c[BLOCK];
  int64_t j;
  for (j = 0; j < whole; j += LANES) {
    V gain = {0}, sum_g = {0}, sum_b = {0};
    if (g) gain = load(g + j);
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) {
      const int64_t at = i * n + j;
      V u = (mixed(x, add ? f : NULL, alpha, at) - mean[i]) * rstd[i], d = load(dy + at), w = d;
      if (g) w *= gain;
      if (centre) p[i] += w;
      q[i] += w * u;
      sum_g += d * u;
      sum_b += d;
    }
    if (dg) *(V *)(dg + j) += sum_g;
    if (db) *(V *)(db + j) += sum_b;
  }
  for (int i = 0; i < count; i++) {
    a[i] = centre ? sum_in_order(p[i]) : 0;
    c[i] = sum_in_order(q[i]);
    for (j = whole; j < n; j++) {
      const int64_t at = i * n + j;
      const float t = add ? alpha * x[at] + f[at] : x[at], u = (t - mean[i]) * rstd[i], w = dy[at] * (g ? g[j] : 1);
      if (centre) a[i] += w;
      c[i] += w * u;
      if (dg) dg[j] += dy[at] * u;
      if (db) db[j] += dy[at];
    }
    a[i] /= n;
    c[i] /= n;
  }
  for (int i = 0; i < count; i++) {
    const float slope = c[i] * rstd[i];
    for (j = 0; j < whole; j += LANES) {
      const int64_t at = i * n + j;
      V t = mixed(x, add ? f : NULL, alpha, at), d = load(dy + at);
      ask(x + at + count * n);
      ask(dy + at + count * n);
      if (add) ask(f + at + count * n);
      if (g) d *= load(g + j);
      d = (d - a[i] - (t - mean[i]) * slope) * rstd[i];
      if (dtotal) d += load(dtotal + at);
      if (df) put(df + at, d, stream);
      put(dx + at, d * alpha, stream);
    }
    for (; j < n; j++) {
      const int64_t at = i * n + j;
      const float t = add ? alpha * x[at] + f[at] : x[at];
      float d = (dy[at] * (g ? g[j] : 1) - a[i] - (t - mean[i]) * slope) * rstd[i];
      if (dtotal) d += dtotal[at];
      if (df) df[at] = d;
      dx[at] = d * alpha;
    }
  }
}

/* dx, df [rows, n] (df may be NULL), dg and db [n] or NULL, from dy and, where the sum went on, dtotal [rows, n].
 * x is the sum itself where f is NULL; alpha still scales dx. Returns 0, or 1 where memory ran out. */
int norm_backward(const float *x, const float *f, const float *alpha, const float *g, const float *dy,
                  const float *dtotal, const float *mean, const float *rstd, float *dx, float *df, float *dg, float *db,
                  int64_t rows, int64_t n, int centre, int stream, int threads) {
  const float a = alpha ? *alpha : 1;
  const int64_t wide = (n + 15) / 16 * 16; /* every thread's sums begin on a line of their own */
  const int64_t blocks = (rows + BLOCK - 1) / BLOCK;
  float *scratch = NULL;
  if (posix_memalign((void **)&scratch, 64, 2 * wide * threads * sizeof(float))) return 1;
  memset(scratch, 0, 2 * wide * threads * sizeof(float));
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    int me = 0;
#ifdef _OPENMP
    me = omp_get_thread_num();
#endif
    float *mine_g = dg ? scratch + 2 * wide * me : NULL, *mine_b = db ? scratch + 2 * wide * me + wide : NULL;
#pragma omp for schedule(static)
    for (int64_t block = 0; block < blocks; block++) {
      int64_t r = block * BLOCK;
      const int64_t end = r + BLOCK < rows ? r + BLOCK : rows, step = end - r == BLOCK ? BLOCK : 1;
      for (; r < end; r += step) {
        const int64_t at = r * n;
#define ROWS(COUNT, CENTRE, ADD)                                                                                     \
  backward_rows(x + at, (ADD) ? f + at : NULL, a, g, dy + at, dtotal ? dtotal + at : NULL, mean + r, rstd + r, dx + at, \
                df ? df + at : NULL, mine_g, mine_b, n, COUNT, CENTRE, ADD, stream)
#define EITHER(CENTRE, ADD) if (step == BLOCK) ROWS(BLOCK, CENTRE, ADD); else ROWS(1, CENTRE, ADD)
        if (centre) { if (f) { EITHER(1, 1); } else { EITHER(1, 0); } }
        else { if (f) { EITHER(0, 1); } else { EITHER(0, 0); } }
#undef EITHER
#undef ROWS
      }
    }
    fence(stream);
  }
  for (int which = 0; which < 2; which++) {
    float *out = which ? db : dg;
    if (!out) continue;
    for (int64_t j = 0; j < n; j++) {
      float total = 0;
      for (int i = 0; i < threads; i++) total += scratch[2 * wide * i + which * wide + j];
      out[j] = total;
    }
  }
  free(scratch);
  return 0;
}
