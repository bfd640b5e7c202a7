/* Attention of short rows: softmax(scale q k^T + bias) v and its gradients, one head at a time from the caches.
 *
 * torch's fused kernel is made for long rows and wide heads; at 64 tokens of 16 features it runs at a tenth of the
 * machine's rate. Here keys are packed [features, keys], so that a row of scores is computed sixteen keys at a time,
 * ROWS queries together; of the backward pass, scores are computed again from q, k and the kept log-sum-exp.
 */
#include "vectors.h"

#define ROWS 4

/* Strides in elements; the last axis of every tensor has stride 1. */
typedef struct {
  int64_t batch, heads, kv_heads, queries, keys, width;
  int64_t q[3], k[3], v[3], out[3], dout[3], dq[3], dk[3], dv[3]; /* of batch, head, row */
  int64_t bias[3];                                               /* of batch, head, query */
  float scale;
  int32_t causal, has_bias, threads;
} Shape;

int shape_bytes(void) { return sizeof(Shape); }

/* to[c * wide + j] = from[j * stride + c] */
static void pack(const float *from, int64_t stride, int64_t rows, int64_t width, float *to, int64_t wide) {
  for (int64_t c = 0; c < width; c++) {
    float *line = to + c * wide;
    for (int64_t j = 0; j < rows; j++) line[j] = from[j * stride + c];
    for (int64_t j = rows; j < wide; j++) line[j] = 0;
  }
}

/* out[r * wide + j] = sum over c of a[r * width + c] packed[c * wide + j], ROWS rows, up to `end` (a multiple of 16) */
INLINE void products(const float *a, const float *packed, int64_t width, int64_t wide, int64_t end, float *out) {
  int64_t j = 0;
  for (; j + 2 * LANES <= end; j += 2 * LANES) {
    V s[ROWS][2] = {{{0}}};
    for (int64_t c = 0; c < width; c++) {
      const V x = load(packed + c * wide + j), y = load(packed + c * wide + j + LANES);
#pragma GCC unroll 4
      for (int r = 0; r < ROWS; r++) {
        s[r][0] += x * a[r * width + c];
        s[r][1] += y * a[r * width + c];
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) { store(out + r * wide + j, s[r][0]); store(out + r * wide + j + LANES, s[r][1]); }
  }
  for (; j < end; j += LANES) {
    V s[ROWS] = {{0}};
    for (int64_t c = 0; c < width; c++) {
      const V x = load(packed + c * wide + j);
#pragma GCC unroll 4
      for (int r = 0; r < ROWS; r++) s[r] += x * a[r * width + c];
    }
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) store(out + r * wide + j, s[r]);
  }
}

/* out[r][c] = factor[r] x sum over j < end of p[r * wide + j] rows[j * stride + c], for `count` of ROWS rows */
INLINE void mix(const float *p, int64_t wide, const float *rows, int64_t stride, int64_t width, int64_t end,
                const float *factor, float *out, int64_t out_stride, int count) {
  for (int64_t c = 0; c < width; c += LANES) {
    V s[ROWS] = {{0}};
    for (int64_t j = 0; j < end; j++) {
      const V x = load(rows + j * stride + c);
#pragma GCC unroll 4
      for (int r = 0; r < ROWS; r++) s[r] += x * p[r * wide + j];
    }
    for (int r = 0; r < count; r++) store(out + r * out_stride + c, s[r] * factor[r]);
  }
}

/* Keys up to the last that any of `count` rows from `row` on sees. */
INLINE int64_t visible(const Shape *n, int64_t row, int count, const float *bias) {
  int64_t seen = n->keys;
  if (n->causal) {
    const int64_t last = row + count + n->keys - n->queries;
    seen = last < n->keys ? (last > 0 ? last : 0) : n->keys;
  }
  if (bias) { /* masks are mostly triangles too: pass over what is hidden at the end */
    int64_t most = 0;
    for (int r = 0; r < count && most < seen; r++) {
      const float *add = bias + (row + r) * n->bias[2];
      int64_t own = seen;
      while (own > most && add[own - 1] == -INFINITY) own--;
      most = own > most ? own : most;
    }
    seen = most;
  }
  return seen;
}

INLINE void mask(const Shape *n, int64_t row, int count, int64_t seen, int64_t end, int64_t wide, const float *bias,
                 float *s) {
  for (int r = 0; r < ROWS; r++) {
    int64_t own = r < count ? (n->causal ? row + r + 1 + n->keys - n->queries : n->keys) : 0;
    own = own < 0 ? 0 : own < seen ? own : seen;
    float *line = s + r * wide;
    if (bias && r < count) {
      const float *add = bias + (row + r) * n->bias[2];
      int64_t j = 0;
      for (; j + LANES <= own; j += LANES) store(line + j, load(line + j) + load(add + j));
      for (; j < own; j++) line[j] += add[j];
    }
    int64_t j = own & ~(int64_t)(LANES - 1); /* the sixteen that hold the border, then whole ones */
    if (j < own) {
      const I at = (I){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} + (int32_t)j;
      store(line + j, pick(at < (int32_t)own, load(line + j), all(-INFINITY)));
      j += LANES;
    }
    for (; j < end; j += LANES) store(line + j, all(-INFINITY));
  }
}

INLINE void gather(const float *from, int64_t stride, int64_t row, int count, int64_t width, float factor, float *to) {
  for (int r = 0; r < ROWS; r++)
    for (int64_t c = 0; c < width; c += LANES) {
      V x = {0};
      if (r < count) x = load(from + (row + r) * stride + c) * factor;
      store(to + r * width + c, x);
    }
}

static void forward_head(const Shape *n, const float *q, const float *k, const float *v, const float *bias, float *out,
                         float *lse, float *scratch) {
  const int64_t d = n->width, wide = UP(n->keys);
  float *packed = scratch, *s = packed + d * wide, *a = s + ROWS * wide;
  pack(k, n->k[2], n->keys, d, packed, wide);
  for (int64_t row = 0; row < n->queries; row += ROWS) {
    const int count = n->queries - row < ROWS ? (int)(n->queries - row) : ROWS;
    const int64_t seen = visible(n, row, count, bias), end = UP(seen);
    gather(q, n->q[2], row, count, d, n->scale, a);
    products(a, packed, d, wide, end, s);
    mask(n, row, count, seen, end, wide, bias, s);
    float share[ROWS] = {0};
    for (int r = 0; r < count; r++) {
      float *line = s + r * wide;
      V most = all(-INFINITY), sum = {0};
      for (int64_t j = 0; j < end; j += LANES) { const V x = load(line + j); most = pick(x > most, x, most); }
      const float top = most_of(most), base = top == -INFINITY ? 0 : top;
      for (int64_t j = 0; j < end; j += LANES) {
        const V e = exponential(load(line + j) - base);
        sum += e;
        store(line + j, e);
      }
      const float total = sum_of(sum);
      share[r] = total == 0 ? 0 : 1 / total;
      lse[row + r] = total == 0 ? 0 : base + logf(total);
    }
    mix(s, wide, v, n->v[2], d, seen, share, out + row * n->out[2], n->out[2], count);
  }
}

static void backward_head(const Shape *n, const float *q, const float *k, const float *v, const float *bias,
                          const float *out, const float *dout, const float *lse, float *dq, float *dk, float *dv,
                          float *scratch) {
  const int64_t d = n->width, wide = UP(n->keys);
  float *keys = scratch, *values = keys + d * wide, *p = values + d * wide, *t = p + ROWS * wide, *a = t + ROWS * wide;
  float *g = a + ROWS * d;
  pack(k, n->k[2], n->keys, d, keys, wide);
  pack(v, n->v[2], n->keys, d, values, wide);
  const float scale[ROWS] = {n->scale, n->scale, n->scale, n->scale};
  for (int64_t row = 0; row < n->queries; row += ROWS) {
    const int count = n->queries - row < ROWS ? (int)(n->queries - row) : ROWS;
    const int64_t seen = visible(n, row, count, bias), end = UP(seen);
    gather(q, n->q[2], row, count, d, n->scale, a);
    gather(dout, n->dout[2], row, count, d, 1, g);
    products(a, keys, d, wide, end, p);
    products(g, values, d, wide, end, t);
    mask(n, row, count, seen, end, wide, bias, p);
    for (int r = 0; r < ROWS; r++) {
      V both = {0};
      for (int64_t c = 0; r < count && c < d; c += LANES) both += load(g + r * d + c) * load(out + (row + r) * n->out[2] + c);
      const float dot = sum_of(both);
      const float base = r < count ? lse[row + r] : 0;
      for (int64_t j = 0; j < end; j += LANES) {
        const V e = exponential(load(p + r * wide + j) - base);
        store(p + r * wide + j, e);
        store(t + r * wide + j, e * (load(t + r * wide + j) - dot));
      }
    }
    mix(t, wide, k, n->k[2], d, seen, scale, dq + row * n->dq[2], n->dq[2], count);
    for (int64_t c = 0; c < d; c += LANES) {
      V x[ROWS], y[ROWS]; /* q scaled, and the gradient of out */
      for (int r = 0; r < ROWS; r++) { x[r] = load(a + r * d + c); y[r] = load(g + r * d + c); }
      for (int64_t j = 0; j < seen; j++) {
        V one = load(dk + j * n->dk[2] + c), two = load(dv + j * n->dv[2] + c);
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) { one += x[r] * t[r * wide + j]; two += y[r] * p[r * wide + j]; }
        store(dk + j * n->dk[2] + c, one);
        store(dv + j * n->dv[2] + c, two);
      }
    }
  }
}

/* out like q; lse [batch, heads, queries]. Returns 0, or 1 where memory ran out. */
int attention_forward(const Shape *n, const float *q, const float *k, const float *v, const float *bias, float *out,
                      float *lse) {
  const int64_t wide = UP(n->keys), size = UP(n->width * wide + ROWS * wide + ROWS * n->width);
  float *scratch = NULL;
  if (posix_memalign((void **)&scratch, 64, size * n->threads * sizeof(float))) return 1;
  const int64_t group = n->heads / n->kv_heads;
#pragma omp parallel for schedule(static) num_threads(n->threads) if (n->threads > 1)
  for (int64_t at = 0; at < n->batch * n->heads; at++) {
    int me = 0;
#ifdef _OPENMP
    me = omp_get_thread_num();
#endif
    const int64_t b = at / n->heads, h = at % n->heads, kv = h / group;
    forward_head(n, q + b * n->q[0] + h * n->q[1], k + b * n->k[0] + kv * n->k[1], v + b * n->v[0] + kv * n->v[1],
                 n->has_bias ? bias + b * n->bias[0] + h * n->bias[1] : NULL, out + b * n->out[0] + h * n->out[1],
                 lse + at * n->queries, scratch + size * me);
  }
  free(scratch);
  return 0;
}

/* The heads of a group add to the same dk and dv. Returns 0, or 1 where memory ran out. */
int attention_backward(const Shape *n, const float *q, const float *k, const float *v, const float *bias,
                       const float *out, const float *dout, const float *lse, float *dq, float *dk, float *dv) {
  const int64_t wide = UP(n->keys), size = UP(2 * n->width * wide + 2 * ROWS * wide + 2 * ROWS * n->width);
  float *scratch = NULL;
  if (posix_memalign((void **)&scratch, 64, size * n->threads * sizeof(float))) return 1;
  const int64_t group = n->heads / n->kv_heads;
#pragma omp parallel for schedule(static) num_threads(n->threads) if (n->threads > 1)
  for (int64_t at = 0; at < n->batch * n->kv_heads; at++) {
    int me = 0;
#ifdef _OPENMP
    me = omp_get_thread_num();
#endif
    const int64_t b = at / n->kv_heads, kv = at % n->kv_heads;
    for (int64_t j = 0; j < n->keys; j++) {
      memset(dk + b * n->dk[0] + kv * n->dk[1] + j * n->dk[2], 0, n->width * sizeof(float));
      memset(dv + b * n->dv[0] + kv * n->dv[1] + j * n->dv[2], 0, n->width * sizeof(float));
    }
    for (int64_t h = kv * group; h < (kv + 1) * group; h++)
      backward_head(n, q + b * n->q[0] + h * n->q[1], k + b * n->k[0] + kv * n->k[1], v + b * n->v[0] + kv * n->v[1],
                    n->has_bias ? bias + b * n->bias[0] + h * n->bias[1] : NULL, out + b * n->out[0] + h * n->out[1],
                    dout + b * n->dout[0] + h * n->dout[1], lse + (b * n->heads + h) * n->queries,
                    dq + b * n->dq[0] + h * n->dq[1], dk + b * n->dk[0] + kv * n->dk[1],
                    dv + b * n->dv[0] + kv * n->dv[1], scratch + size * me);
  }
  free(scratch);
  return 0;
}
