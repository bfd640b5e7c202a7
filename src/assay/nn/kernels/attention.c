/* Attention of short rows: softmax(scale q k^T + bias) v and its gradients, one head at a time from the caches.
 *
 * torch's fused kernel is made for long rows and wide heads; at 64 tokens of 16 features it runs at a tenth of the
 * machine's rate. Here queries lie side by side in registers: a panel has WIDE of them as columns, and keys or features
 * as lines. So a softmax's maxima and sums are taken lane by lane, and rows of whatever length cost no more than their
 * keys. Every product is a sum of `tile`s, ROWS rows of numbers with a panel: all sums are in registers, and memory is
 * read in order. Of the backward pass, scores are computed again from q, k and the kept log-sum-exp.
 */
#include "tile.h"

/* Panels whose part of dk and dv is summed in registers: the longer such a sum, the less often memory is added to. */
#define PANELS (64 / WIDE)

/* Strides in elements; the last axis of every tensor has stride 1. */
typedef struct {
  int64_t batch, heads, kv_heads, queries, keys, width;
  int64_t shift; /* where causal, a query sees so many keys more than its place and one */
  int64_t q[3], k[3], v[3], out[3], dout[3], dq[3], dk[3], dv[3]; /* of batch, head, row */
  int64_t bias[3];                                               /* of batch, head, query */
  float scale;
  int32_t causal, has_bias, threads;
} Shape;

int shape_bytes(void) { return sizeof(Shape); }

/* Up to WIDE queries from `row` on: how many, and in each register; the keys that each register sees, and any. */
typedef struct {
  int64_t row, seen[2], most;
  int rows, count[2];
} Panel;

/* out[key][query] = rows[key] x panel, for as many keys as are seen and up to ROWS - 1 more */
INLINE void scores_some(const float *rows, const float *panel, int64_t width, float *out, const int first,
                        const int last) {
  V sums[ROWS][2] = {{{0}}};
  tile(rows, width, 1, panel, WIDE, width, first, last, sums);
  EACH_ROW EACH_PART store(out + r * WIDE + i * LANES, sums[r][i]);
}

INLINE void scores(const Panel *at, const float *rows, const float *panel, int64_t width, float *out) {
  for (int64_t j = 0; j < at->most; j += ROWS) {
    const float *here = rows + j * width;
    float *to = out + j * WIDE;
    if (j >= at->seen[1]) scores_some(here, panel, width, to, 0, 1);
    else if (j >= at->seen[0]) scores_some(here, panel, width, to, 1, 2);
    else scores_some(here, panel, width, to, 0, 2);
  }
}

/* out[feature][query] = factor[query] x sum over the keys that the query's register sees of p[key][query] rows[key] */
INLINE void mix(const Panel *at, const float *p, const float *rows, int64_t width, const V factor[2], float *out) {
  const int64_t low = at->seen[0], high = at->seen[1], both = low < high ? low : high;
  for (int64_t c = 0; c < width; c += ROWS) {
    V sums[ROWS][2] = {{{0}}};
    tile(rows + c, 1, width, p, WIDE, both, 0, 2, sums);
    if (low > both) tile(rows + both * width + c, 1, width, p + both * WIDE, WIDE, low - both, 0, 1, sums);
    if (high > both) tile(rows + both * width + c, 1, width, p + both * WIDE, WIDE, high - both, 1, 2, sums);
    const int count = width - c < ROWS ? (int)(width - c) : ROWS;
    for (int r = 0; r < count; r++)
      for (int i = 0; i < 2; i++) store(out + (c + r) * WIDE + i * LANES, sums[r][i] * factor[i]);
  }
}

/* out[key] += sum over the panels' queries of p[key][query] rows[query] */
INLINE void spread_some(const Panel *at, int panels, const float *p, int64_t apart, const float *rows, int64_t width,
                        int64_t j, int64_t keys, float *out, const int last) {
  const int first = 0;
  V sums[ROWS][2] = {{{0}}};
  for (int g = 0; g < panels; g++) {
    const int64_t from = j < at[g].seen[0] ? 0 : LANES, to = j < at[g].seen[1] ? at[g].rows : at[g].count[0];
    if (j < at[g].most)
      tile(p + g * apart + j * WIDE + from, WIDE, 1, rows + (g * WIDE + from) * width, width, to - from, 0, last, sums);
  }
  const int count = keys - j < ROWS ? (int)(keys - j) : ROWS;
  for (int r = 0; r < count; r++)
    EACH_PART {
      float *to = out + (j + r) * width + i * LANES;
      store(to, load(to) + sums[r][i]);
    }
}

INLINE void spread(const Panel *at, int panels, const float *p, int64_t apart, const float *rows, int64_t width,
                   int64_t keys, float *out) {
  int64_t most = 0;
  for (int g = 0; g < panels; g++) most = at[g].most > most ? at[g].most : most;
  for (int64_t c = 0; c < width; c += WIDE)
    for (int64_t j = 0; j < most; j += ROWS) {
      if (width - c < WIDE) spread_some(at, panels, p, apart, rows + c, width, j, keys, out + c, 1);
      else spread_some(at, panels, p, apart, rows + c, width, j, keys, out + c, 2);
    }
}

/* Keys up to the last that any of `count` queries from `row` on sees. */
INLINE int64_t visible(const Shape *n, int64_t row, int count, const float *bias) {
  int64_t seen = count > 0 ? n->keys : 0;
  if (n->causal) {
    const int64_t last = row + count + n->shift;
    seen = last < seen ? (last > 0 ? last : 0) : seen;
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

INLINE Panel panel_of(const Shape *n, int64_t row, const float *bias) {
  Panel at = {.row = row, .rows = n->queries - row < WIDE ? (int)(n->queries - row) : WIDE};
  for (int i = 0; i < 2; i++) {
    const int left = at.rows - i * LANES;
    at.count[i] = left < 0 ? 0 : left < LANES ? left : LANES;
    at.seen[i] = visible(n, row + i * LANES, at.count[i], bias);
    at.most = at.seen[i] > at.most ? at.seen[i] : at.most;
  }
  return at;
}

/* Rows one behind the other, times a factor, and ROWS lines of zeros for the last tile. */
INLINE void pack(const float *from, int64_t stride, int64_t rows, int64_t width, float factor, float *to) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < width; c += LANES) store(to + r * width + c, load(from + r * stride + c) * factor);
  memset(to + rows * width, 0, ROWS * width * sizeof(float));
}

/* A panel of the queries' features from their rows, one behind the other; zeros where there are fewer than WIDE. */
static void to_panel(const Panel *at, const float *rows, int64_t width, float *panel) {
  for (int64_t c = 0; c < width; c += LANES)
    for (int i = 0; i < 2; i++) {
      V x[LANES];
      EACH_LANE x[r] = r < at->count[i] ? load(rows + (i * LANES + r) * width + c) : all(0);
      transpose(x);
      EACH_LANE store(panel + (c + r) * WIDE + i * LANES, x[r]);
    }
}

/* Back into rows. */
static void to_rows(const Panel *at, const float *panel, int64_t width, float *to, int64_t stride) {
  for (int64_t c = 0; c < width; c += LANES)
    for (int i = 0; i < 2; i++) {
      V x[LANES];
      EACH_LANE x[r] = load(panel + (c + r) * WIDE + i * LANES);
      transpose(x);
      for (int r = 0; r < at->count[i]; r++) store(to + (i * LANES + r) * stride + c, x[r]);
    }
}

static void add_bias(const Shape *n, const Panel *at, const float *bias, int i, float *s) {
  const float *rows = bias + (at->row + i * LANES) * n->bias[2];
  for (int64_t j = 0; j < at->seen[i]; j += LANES) {
    const int have = at->seen[i] - j < LANES ? (int)(at->seen[i] - j) : LANES;
    V x[LANES] = {{0}};
    for (int r = 0; r < at->count[i]; r++) {
      if (have == LANES) x[r] = load(rows + r * n->bias[2] + j);
      else memcpy(&x[r], rows + r * n->bias[2] + j, have * sizeof(float));
    }
    transpose(x);
    for (int r = 0; r < have; r++) {
      float *to = s + (j + r) * WIDE + i * LANES;
      store(to, load(to) + x[r]);
    }
  }
}

/* What the slopes of a register's queries add to the bias's gradient. */
static void add_slopes(const Shape *n, const Panel *at, int i, const float *t, float *dbias) {
  float *rows = dbias + (at->row + i * LANES) * n->bias[2];
  for (int64_t j = 0; j < at->seen[i]; j += LANES) {
    const int have = at->seen[i] - j < LANES ? (int)(at->seen[i] - j) : LANES;
    V x[LANES];
    EACH_LANE x[r] = r < have ? load(t + (j + r) * WIDE + i * LANES) : all(0);
    transpose(x);
    for (int r = 0; r < at->count[i]; r++) {
      float *to = rows + r * n->bias[2] + j;
      if (have == LANES) store(to, load(to) + x[r]);
      else
        for (int c = 0; c < have; c++) to[c] += x[r][c];
    }
  }
}

/* Scores of what queries do not see become -inf. */
INLINE void hide(const Shape *n, const Panel *at, const float *bias, float *s) {
  for (int i = 0; i < 2; i++) {
    if (bias) add_bias(n, at, bias, i, s);
    if (!n->causal) continue;
    const int64_t first = at->row + i * LANES + 1 + n->shift; /* keys that the first query sees */
    I own;
    EACH_LANE own[r] = (int32_t)first + r;
    for (int64_t j = first > 0 ? first : 0; j < at->seen[i]; j++) {
      float *to = s + j * WIDE + i * LANES;
      store(to, pick(own > (int32_t)j, load(to), all(-INFINITY)));
    }
  }
}

static void forward_head(const Shape *n, const float *q, const float *k, const float *v, const float *bias, float *out,
                         float *lse, float *scratch) {
  const int64_t d = n->width, lines = n->keys + ROWS;
  float *keys = scratch, *values = keys + d * lines, *s = values + d * lines, *rows = s + WIDE * lines;
  float *panel = rows + d * (WIDE + ROWS);
  pack(k, n->k[2], n->keys, d, 1, keys);
  pack(v, n->v[2], n->keys, d, 1, values);
  for (int64_t row = 0; row < n->queries; row += WIDE) {
    const Panel at = panel_of(n, row, bias);
    pack(q + row * n->q[2], n->q[2], at.rows, d, n->scale, rows);
    to_panel(&at, rows, d, panel);
    scores(&at, keys, panel, d, s);
    hide(n, &at, bias, s);
    V share[2];
    for (int i = 0; i < 2; i++) {
      V most = all(-INFINITY), total = {0};
      float *line = s + i * LANES;
      for (int64_t j = 0; j < at.seen[i]; j++) most = larger(load(line + j * WIDE), most);
      const V base = pick(most == -INFINITY, all(0), most);
      for (int64_t j = 0; j < at.seen[i]; j++) {
        const V e = exponential(load(line + j * WIDE) - base);
        total += e;
        store(line + j * WIDE, e);
      }
      const I none = total == 0;
      share[i] = pick(none, all(0), 1 / total);
      const V kept = pick(none, all(0), base + logarithm(total));
      memcpy(lse + row + i * LANES, &kept, at.count[i] * sizeof(float));
    }
    mix(&at, s, values, d, share, panel);
    to_rows(&at, panel, d, out + row * n->out[2], n->out[2]);
  }
}

/* One panel's p and slopes, of which gradients are products, and its dq. */
INLINE void slopes(const Shape *n, const Panel *at, const float *keys, const float *values, const float *rows,
                   const float *grads, const float *bias, const float *out, const float *lse, float *dq, float *dbias,
                   float *p, float *t, float *panel) {
  const int64_t d = n->width;
  to_panel(at, rows, d, panel);
  scores(at, keys, panel, d, p);
  to_panel(at, grads, d, panel);
  scores(at, values, panel, d, t);
  hide(n, at, bias, p);
  for (int i = 0; i < 2; i++) {
    V x[LANES] = {{0}}, dot = {0}, base = {0};
    for (int r = 0; r < at->count[i]; r++)
      for (int64_t c = 0; c < d; c += LANES)
        x[r] += load(grads + (i * LANES + r) * d + c) * load(out + (i * LANES + r) * n->out[2] + c);
    transpose(x);
    EACH_LANE dot += x[r];
    memcpy(&base, lse + i * LANES, at->count[i] * sizeof(float));
    for (int64_t j = 0; j < at->seen[i]; j++) {
      float *line = p + j * WIDE + i * LANES, *slope = t + j * WIDE + i * LANES;
      const V e = exponential(load(line) - base);
      store(line, e);
      store(slope, e * (load(slope) - dot));
    }
    for (int64_t j = at->seen[i]; j % ROWS; j++) { /* what others of the last tile may see */
      store(p + j * WIDE + i * LANES, all(0));
      store(t + j * WIDE + i * LANES, all(0));
    }
    if (dbias) add_slopes(n, at, i, t, dbias);
  }
  const V scale[2] = {all(n->scale), all(n->scale)};
  mix(at, t, keys, d, scale, panel);
  to_rows(at, panel, d, dq, n->dq[2]);
}

static void backward_head(const Shape *n, const float *keys, const float *values, const float *q, const float *bias,
                          const float *out, const float *dout, const float *lse, float *dq, float *dk, float *dv,
                          float *dbias, float *scratch) {
  const int64_t d = n->width, lines = n->keys + ROWS, apart = WIDE * lines;
  float *p = scratch, *t = p + PANELS * apart, *rows = t + PANELS * apart, *grads = rows + d * (PANELS * WIDE + ROWS);
  float *panel = grads + d * (PANELS * WIDE + ROWS);
  for (int64_t row = 0; row < n->queries; row += PANELS * WIDE) {
    Panel at[PANELS];
    int panels = 0;
    for (int64_t from = row; panels < PANELS && from < n->queries; from += WIDE, panels++) {
      const int64_t g = panels, skip = g * WIDE * d;
      at[g] = panel_of(n, from, bias);
      pack(q + from * n->q[2], n->q[2], at[g].rows, d, n->scale, rows + skip);
      pack(dout + from * n->dout[2], n->dout[2], at[g].rows, d, 1, grads + skip);
      slopes(n, at + g, keys, values, rows + skip, grads + skip, bias, out + from * n->out[2], lse + from,
             dq + from * n->dq[2], dbias, p + g * apart, t + g * apart, panel);
    }
    spread(at, panels, t, apart, rows, d, n->keys, dk);
    spread(at, panels, p, apart, grads, d, n->keys, dv);
  }
}

/* out like q; lse [batch, heads, queries]. Returns 0, or 1 where memory ran out. */
int attention_forward(const Shape *n, const float *q, const float *k, const float *v, const float *bias, float *out,
                      float *lse) {
  const int64_t d = n->width, lines = n->keys + ROWS, size = UP(2 * d * lines + WIDE * lines + d * (2 * WIDE + ROWS));
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

/* The heads of a group add to the same dk and dv. dbias, where there is one, lies as the bias does and is added to; a
 * head's batches then follow one another, and `threads` must divide the heads. Returns 0, or 1 where memory ran out. */
int attention_backward(const Shape *n, const float *q, const float *k, const float *v, const float *bias,
                       const float *out, const float *dout, const float *lse, float *dq, float *dk, float *dv,
                       float *dbias) {
  const int64_t d = n->width, lines = n->keys + ROWS;
  const int64_t size = UP(4 * d * lines + 2 * PANELS * WIDE * lines + d * (2 * PANELS * WIDE + 2 * ROWS + WIDE));
  float *scratch = NULL;
  if (posix_memalign((void **)&scratch, 64, size * n->threads * sizeof(float))) return 1;
  const int64_t group = n->heads / n->kv_heads;
#pragma omp parallel for schedule(static) num_threads(n->threads) if (n->threads > 1)
  for (int64_t at = 0; at < n->batch * n->kv_heads; at++) {
    int me = 0;
#ifdef _OPENMP
    me = omp_get_thread_num();
#endif
    const int64_t b = dbias ? at % n->batch : at / n->kv_heads, kv = dbias ? at / n->batch : at % n->kv_heads;
    float *keys = scratch + size * me, *values = keys + d * lines, *to_keys = values + d * lines;
    float *to_values = to_keys + d * lines, *rest = to_values + d * lines;
    pack(k + b * n->k[0] + kv * n->k[1], n->k[2], n->keys, d, 1, keys);
    pack(v + b * n->v[0] + kv * n->v[1], n->v[2], n->keys, d, 1, values);
    memset(to_keys, 0, 2 * d * lines * sizeof(float));
    for (int64_t h = kv * group; h < (kv + 1) * group; h++)
      backward_head(n, keys, values, q + b * n->q[0] + h * n->q[1],
                    n->has_bias ? bias + b * n->bias[0] + h * n->bias[1] : NULL, out + b * n->out[0] + h * n->out[1],
                    dout + b * n->dout[0] + h * n->dout[1], lse + (b * n->heads + h) * n->queries,
                    dq + b * n->dq[0] + h * n->dq[1], to_keys, to_values,
                    dbias ? dbias + b * n->bias[0] + h * n->bias[1] : NULL, rest);
    for (int64_t j = 0; j < n->keys; j++) {
      memcpy(dk + b * n->dk[0] + kv * n->dk[1] + j * n->dk[2], to_keys + j * d, d * sizeof(float));
      memcpy(dv + b * n->dv[0] + kv * n->dv[1] + j * n->dv[2], to_values + j * d, d * sizeof(float));
    }
  }
  free(scratch);
  return 0;
}
