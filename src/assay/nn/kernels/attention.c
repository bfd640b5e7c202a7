/* Attention of short rows: softmax(scale q k^T + bias) v and its gradients, one head at a time from the caches.
 *
 * torch's fused kernel is made for long rows and wide heads; at 64 tokens of 16 features it runs at a tenth of the
 * machine's rate. Here every product is a sum of `tile`s: ROWS rows of numbers with a panel, in which the WIDE columns
 * of a matrix lie behind one another, so that all sums are in registers and memory is read in order. Scores of TALL
 * queries are kept together; of the backward pass, they are computed again from q, k and the kept log-sum-exp.
 */
#include "vectors.h"

#define WIDE (2 * LANES)
/* Twice as many sums fill two thirds of the registers, and hide a multiplication's latency. */
#if LANES == 16
#define ROWS 8
#elif LANES == 8
#define ROWS 6
#else
#define ROWS 4
#endif
#define GROUPS 4
#define TALL (GROUPS * ROWS)
#define EACH_ROW _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++)
#define EACH_PART _Pragma("GCC unroll 2") for (int i = 0; i < many; i++)

/* Strides in elements; the last axis of every tensor has stride 1. */
typedef struct {
  int64_t batch, heads, kv_heads, queries, keys, width;
  int64_t q[3], k[3], v[3], out[3], dout[3], dq[3], dk[3], dv[3]; /* of batch, head, row */
  int64_t bias[3];                                               /* of batch, head, query */
  float scale;
  int32_t causal, has_bias, threads;
} Shape;

int shape_bytes(void) { return sizeof(Shape); }

/* How many registers wide the panel is that begins at a column. */
INLINE int parts_of(int64_t column, int64_t columns) { return columns - column < WIDE ? 1 : 2; }

/* Panels of a matrix's columns: to[column * rows + row * width of the panel + i] = from[row][column + i]. */
static void panels(const float *from, int64_t stride, int64_t rows, int64_t columns, float *to) {
  for (int64_t c = 0; c < columns; c += WIDE) {
    const int many = parts_of(c, columns);
    for (int64_t r = 0; r < rows; r++)
      EACH_PART store(to + c * rows + (r * many + i) * LANES, load(from + r * stride + c + i * LANES));
  }
}

/* Panels of the columns of its transpose, of which there are `rows`, and zeros up to whole registers. */
static void panels_across(const float *from, int64_t stride, int64_t rows, int64_t columns, float *to) {
  const int64_t all_of_it = UP(rows);
  for (int64_t j = 0; j < all_of_it; j += WIDE) {
    const int64_t wide = parts_of(j, all_of_it) * LANES, have = rows - j < wide ? rows - j : wide;
    for (int64_t c = 0; c < columns; c++, to += wide) {
      for (int64_t i = 0; i < have; i++) to[i] = from[(j + i) * stride + c];
      for (int64_t i = have; i < wide; i++) to[i] = 0;
    }
  }
}

/* sums[r] = sum over k < count of a[r * row + k * step] and the panel's k-th line */
INLINE void tile(const float *a, int64_t row, int64_t step, const float *panel, int64_t count, const int many,
                 V sums[ROWS][2]) {
  EACH_ROW EACH_PART sums[r][i] = (V){0};
  for (int64_t k = 0; k < count; k++) {
    V x[2];
    EACH_PART x[i] = load(panel + (k * many + i) * LANES);
    EACH_ROW {
      const float y = a[r * row + k * step];
      EACH_PART sums[r][i] += x[i] * y;
    }
  }
}

/* Up to TALL queries from `row` on, in groups of ROWS: how many keys each group sees, and all of them. */
typedef struct {
  int64_t row, seen[GROUPS], most;
  int count[GROUPS], groups, rows;
} Chunk;

/* out[row][key], `wide` apart = the products of each group's rows of a with the keys that it sees, whole registers. */
INLINE void scores_some(const Chunk *at, const float *a, const float *panel, int64_t width, int64_t j, int64_t wide,
                        float *out, const int many) {
  for (int g = 0; g < at->groups; g++) {
    if (j >= at->seen[g]) continue;
    V sums[ROWS][2];
    tile(a + g * ROWS * width, width, 1, panel, width, many, sums);
    EACH_ROW EACH_PART store(out + (g * ROWS + r) * wide + j + i * LANES, sums[r][i]);
  }
}

INLINE void scores(const Chunk *at, const float *a, const float *across, int64_t width, int64_t wide, float *out) {
  for (int64_t j = 0; j < at->most; j += WIDE) {
    if (parts_of(j, wide) == 2) scores_some(at, a, across + j * width, width, j, wide, out, 2);
    else scores_some(at, a, across + j * width, width, j, wide, out, 1);
  }
}

/* out[row] = factor[row] x sum over the keys that the row's group sees of p[row][key] and the key's line in the panels */
INLINE void mix_some(const Chunk *at, const float *p, int64_t wide, const float *panel, const float *factor, float *out,
                     int64_t stride, const int many) {
  for (int g = 0; g < at->groups; g++) {
    V sums[ROWS][2];
    tile(p + g * ROWS * wide, wide, 1, panel, at->seen[g], many, sums);
    for (int r = 0; r < at->count[g]; r++)
      EACH_PART store(out + (g * ROWS + r) * stride + i * LANES, sums[r][i] * factor[g * ROWS + r]);
  }
}

INLINE void mix(const Chunk *at, const float *p, int64_t wide, const float *panel, int64_t keys, int64_t width,
                const float *factor, float *out, int64_t stride) {
  for (int64_t c = 0; c < width; c += WIDE) {
    if (parts_of(c, width) == 2) mix_some(at, p, wide, panel + c * keys, factor, out + c, stride, 2);
    else mix_some(at, p, wide, panel + c * keys, factor, out + c, stride, 1);
  }
}

/* out[key] += sum over the chunk's rows of p[row][key] and the row's line in the panels */
INLINE void spread_some(const Chunk *at, const float *p, int64_t wide, const float *panel, float *out, int64_t stride,
                        const int many) {
  for (int64_t j = 0; j < at->most; j += ROWS) {
    V sums[ROWS][2];
    tile(p + j, 1, wide, panel, at->rows, many, sums); /* of the last keys more than there are; not kept */
    const int count = at->most - j < ROWS ? (int)(at->most - j) : ROWS;
    for (int r = 0; r < count; r++)
      EACH_PART {
        float *to = out + (j + r) * stride + i * LANES;
        store(to, load(to) + sums[r][i]);
      }
  }
}

INLINE void spread(const Chunk *at, const float *p, int64_t wide, const float *panel, int64_t width, float *out,
                   int64_t stride) {
  for (int64_t c = 0; c < width; c += WIDE) {
    if (parts_of(c, width) == 2) spread_some(at, p, wide, panel + c * TALL, out + c, stride, 2);
    else spread_some(at, p, wide, panel + c * TALL, out + c, stride, 1);
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
    int64_t j = own & ~(int64_t)(LANES - 1); /* the register that holds the border, then whole ones */
    if (j < own) {
      I at;
      for (int i = 0; i < LANES; i++) at[i] = (int32_t)j + i;
      store(line + j, pick(at < (int32_t)own, load(line + j), all(-INFINITY)));
      j += LANES;
    }
    for (; j < end; j += LANES) store(line + j, all(-INFINITY));
  }
}

INLINE Chunk chunk_of(const Shape *n, int64_t row, const float *bias) {
  Chunk at = {.row = row, .rows = n->queries - row < TALL ? (int)(n->queries - row) : TALL};
  for (int first = 0; first < at.rows; first += ROWS) {
    const int g = at.groups++;
    at.count[g] = at.rows - first < ROWS ? at.rows - first : ROWS;
    at.seen[g] = visible(n, row + first, at.count[g], bias);
    at.most = at.seen[g] > at.most ? at.seen[g] : at.most;
  }
  return at;
}

/* The chunk's rows, `width` apart, times a factor; zeros where a group has fewer than ROWS. */
INLINE void gather(const Chunk *at, const float *from, int64_t stride, int64_t width, float factor, float *to) {
  for (int r = 0; r < at->groups * ROWS; r++)
    for (int64_t c = 0; c < width; c += LANES) {
      V x = {0};
      if (r < at->rows) x = load(from + (at->row + r) * stride + c) * factor;
      store(to + r * width + c, x);
    }
}

INLINE void hide(const Shape *n, const Chunk *at, int64_t wide, const float *bias, float *s) {
  for (int g = 0; g < at->groups; g++)
    mask(n, at->row + g * ROWS, at->count[g], at->seen[g], UP(at->seen[g]), wide, bias, s + g * ROWS * wide);
}

static void forward_head(const Shape *n, const float *q, const float *k, const float *v, const float *bias, float *out,
                         float *lse, float *scratch) {
  const int64_t d = n->width, wide = UP(n->keys);
  float *keys = scratch, *values = keys + d * wide, *s = values + d * wide, *a = s + TALL * wide;
  panels_across(k, n->k[2], n->keys, d, keys);
  panels(v, n->v[2], n->keys, d, values);
  for (int64_t row = 0; row < n->queries; row += TALL) {
    const Chunk at = chunk_of(n, row, bias);
    gather(&at, q, n->q[2], d, n->scale, a);
    scores(&at, a, keys, d, wide, s);
    hide(n, &at, wide, bias, s);
    float share[TALL] = {0};
    for (int r = 0; r < at.rows; r++) {
      float *line = s + r * wide;
      const int64_t end = UP(at.seen[r / ROWS]);
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
    mix(&at, s, wide, values, n->keys, d, share, out + row * n->out[2], n->out[2]);
  }
}

static void backward_head(const Shape *n, const float *q, const float *k, const float *v, const float *bias,
                          const float *out, const float *dout, const float *lse, float *dq, float *dk, float *dv,
                          float *scratch) {
  const int64_t d = n->width, wide = UP(n->keys);
  float *across = scratch, *values = across + d * wide, *keys = values + d * wide, *p = keys + d * wide;
  float *t = p + TALL * wide, *a = t + TALL * wide, *g = a + TALL * d, *turned = g + TALL * d;
  panels_across(k, n->k[2], n->keys, d, across);
  panels_across(v, n->v[2], n->keys, d, values);
  panels(k, n->k[2], n->keys, d, keys);
  float scale[TALL];
  for (int r = 0; r < TALL; r++) scale[r] = n->scale;
  for (int64_t row = 0; row < n->queries; row += TALL) {
    const Chunk at = chunk_of(n, row, bias);
    gather(&at, q, n->q[2], d, n->scale, a);
    gather(&at, dout, n->dout[2], d, 1, g);
    scores(&at, a, across, d, wide, p);
    scores(&at, g, values, d, wide, t);
    hide(n, &at, wide, bias, p);
    for (int r = 0; r < at.groups * ROWS; r++) {
      float *line = p + r * wide, *slope = t + r * wide, base = 0, dot = 0;
      const int64_t end = UP(at.seen[r / ROWS]), all_of_it = UP(at.most);
      if (r < at.rows) {
        V both = {0};
        for (int64_t c = 0; c < d; c += LANES) both += load(g + r * d + c) * load(out + (row + r) * n->out[2] + c);
        dot = sum_of(both);
        base = lse[row + r];
      }
      for (int64_t j = 0; j < end; j += LANES) {
        const V e = exponential(load(line + j) - base);
        store(line + j, e);
        store(slope + j, e * (load(slope + j) - dot));
      }
      for (int64_t j = end; j < all_of_it; j += LANES) { /* what others of the chunk see */
        store(line + j, (V){0});
        store(slope + j, (V){0});
      }
    }
    mix(&at, t, wide, keys, n->keys, d, scale, dq + row * n->dq[2], n->dq[2]);
    panels(a, d, TALL, d, turned);
    spread(&at, t, wide, turned, d, dk, n->dk[2]);
    panels(g, d, TALL, d, turned);
    spread(&at, p, wide, turned, d, dv, n->dv[2]);
  }
}

/* out like q; lse [batch, heads, queries]. Returns 0, or 1 where memory ran out. */
int attention_forward(const Shape *n, const float *q, const float *k, const float *v, const float *bias, float *out,
                      float *lse) {
  const int64_t wide = UP(n->keys), size = UP(2 * n->width * wide + TALL * wide + TALL * n->width);
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
  const int64_t wide = UP(n->keys), size = UP(3 * n->width * wide + 2 * TALL * wide + 3 * TALL * n->width);
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
