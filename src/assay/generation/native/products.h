/* Products of all rows with a matrix that is read once: dst = act(W x + b), and the gated pair.
 *
 * One row: a weight row at a time, so that the weights are one stream from begin to end, which the processor's
 * prefetcher follows. Up to STREAM rows: the same stream, every sixteen weights multiplied by all rows while they are in
 * a register. More: the rows are laid side by side (`pack`), so that a register holds one feature of sixteen rows and
 * each weight is broadcast once; no sum runs across a register, and the weights come from the lines of the next tile
 * that were asked for while this one was computed. docs/log.md has the measurements.
 */
#define CHUNK 16384 /* weights a chunk: about 3 microseconds of reading */
#define MOST_EACH 4096
#define STREAM 8
#define AHEAD 1024  /* weights between the one that is read and the one that is asked for: 4 KB */
#define TILE 8      /* weight rows whose sums are held in registers */
#define MOST_ROWS 256
#define GATE_ROWS 64 /* of the gate's matrix before as many of the other's */

#if defined(__clang__) || __GNUC__ >= 12
#define MIX __builtin_shufflevector
#define MIX4 __builtin_shufflevector
#else
typedef int32_t I4 __attribute__((vector_size(16)));
#define MIX(x, y, ...) __builtin_shuffle(x, y, (I){__VA_ARGS__})
#define MIX4(x, y, ...) __builtin_shuffle(x, y, (I4){__VA_ARGS__})
#endif

/* Ask for `lines` of sixteen weights that are read AHEAD from here: the rows follow one another in memory. */
INLINE void ask(const float *w, const int lines) {
#pragma GCC unroll 8
  for (int i = 0; i < lines; i++) __builtin_prefetch(w + AHEAD + i * LANES, 0, 2);
}

static inline float dot(const float *w, const float *x, int n) {
  V a = {0}, b = {0}, c = {0}, d = {0};
  int i = 0;
  for (; i + 64 <= n; i += 64) {
    ask(w + i, 4);
    a += load(w + i) * load(x + i);
    b += load(w + i + 16) * load(x + i + 16);
    c += load(w + i + 32) * load(x + i + 32);
    d += load(w + i + 48) * load(x + i + 48);
  }
  for (; i + 16 <= n; i += 16) a += load(w + i) * load(x + i);
  if (i < n) b += some(w + i, n - i) * some(x + i, n - i);
  return sum_of((a + b) + (c + d));
}

INLINE void stream(const float *w, const float *x, int n, const int rows, float *y, int64_t stride) {
  V even[STREAM], odd[STREAM];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++) even[r] = odd[r] = all(0);
  int i = 0;
  if (rows <= 4) /* too few sums at once to hide a multiplication's latency */
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
      const V first = load(w + i), second = load(w + i + LANES);
      ask(w + i, 2);
#pragma GCC unroll 8
      for (int r = 0; r < rows; r++) {
        even[r] += first * load(x + (int64_t)r * n + i);
        odd[r] += second * load(x + (int64_t)r * n + i + LANES);
      }
    }
  for (; i + LANES <= n; i += LANES) {
    const V here = load(w + i);
    ask(w + i, 1);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) even[r] += here * load(x + (int64_t)r * n + i);
  }
  if (i < n)
    for (int r = 0; r < rows; r++) even[r] += some(w + i, n - i) * some(x + (int64_t)r * n + i, n - i);
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++) y[r * stride] = sum_of(even[r] + odd[r]);
}

/* The transposed of sixteen registers: interleaving first half and second turns the index of an element by a bit. */
INLINE void transpose(V t[LANES]) {
  for (int round = 0; round < 4; round++) {
    V u[LANES];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
      u[2 * i] = MIX(t[i], t[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      u[2 * i + 1] = MIX(t[i], t[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
    memcpy(t, u, sizeof u);
  }
}

/* Groups of 32 rows, [n][32] each; the last one has 16 where no more are needed. */
INLINE int group_of(int rows, int group) { return rows - group * 32 > 16 ? 32 : 16; }

static void pack(const float *x, int n, int rows, float *panel) {
  for (int from = 0; from < rows; from += LANES) {
    const int group = from / 32, wide = group_of(rows, group);
    float *to = panel + (int64_t)group * 32 * n + from % 32;
    for (int i = 0; i < n; i += LANES) {
      V t[LANES];
      for (int r = 0; r < LANES; r++) t[r] = from + r < rows ? take(x + (int64_t)(from + r) * n + i, n - i) : all(0);
      transpose(t);
      for (int k = 0; k < LANES && i + k < n; k++) store(to + (int64_t)(i + k) * wide, t[k]);
    }
  }
}

/* out[v][i] = sixteen rows' products with weight row i; `ahead`: weights to ask for meanwhile. */
INLINE void tile(const float *w, const float *panel, int n, const int wide, const int count, const float *ahead,
                 V out[2][LANES]) {
  V sum[2][TILE];
#pragma GCC unroll 8
  for (int i = 0; i < count; i++) sum[0][i] = sum[1][i] = all(0);
  for (int from = 0; from < n; from += LANES) {
    const int to = from + LANES < n ? from + LANES : n;
    if (count == TILE)
#pragma GCC unroll 8
      for (int i = 0; i < TILE; i++) __builtin_prefetch(ahead + (from / LANES * TILE + i) * LANES, 0, 2);
#pragma GCC unroll 2
    for (int k = from; k < to; k++) {
      const V first = load(panel + (int64_t)k * wide), second = wide > LANES ? load(panel + (int64_t)k * wide + LANES) : first;
#pragma GCC unroll 8
      for (int i = 0; i < count; i++) {
        const float weight = w[(int64_t)i * n + k];
        sum[0][i] += weight * first;
        if (wide > LANES) sum[1][i] += weight * second;
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < count; i++) {
    out[0][i] = sum[0][i];
    if (wide > LANES) out[1][i] = sum[1][i];
  }
}

INLINE void tiles(const float *w, const float *panel, int n, const int wide, int count, V out[2][LANES]) {
  int i = 0;
  for (; i + TILE <= count; i += TILE) {
    V part[2][LANES];
    tile(w + (int64_t)i * n, panel, n, wide, TILE, w + (int64_t)(i + TILE) * n, part);
    memcpy(out[0] + i, part[0], TILE * sizeof(V));
    if (wide > LANES) memcpy(out[1] + i, part[1], TILE * sizeof(V));
  }
  for (; i < count; i++) {
    V part[2][LANES];
    tile(w + (int64_t)i * n, panel, n, wide, 1, w, part);
    out[0][i] = part[0][0], out[1][i] = part[1][0];
  }
}

static void tiled(const float *w, const float *panel, int n, int rows, int count, float *y, int64_t stride) {
  for (int at = 0; at < count; at += LANES)
    for (int group = 0; group * 32 < rows; group++) {
      const int here = count - at < LANES ? count - at : LANES, wide = group_of(rows, group);
      const float *from = w + (int64_t)at * n, *side = panel + (int64_t)group * 32 * n;
      V out[2][LANES];
      for (int i = here; i < LANES; i++) out[0][i] = out[1][i] = all(0);
      if (wide > LANES) tiles(from, side, n, 32, here, out);
      else tiles(from, side, n, 16, here, out);
      for (int v = 0; v < wide / LANES; v++) {
        const int first = group * 32 + v * LANES;
        transpose(out[v]);
        for (int r = 0; r < LANES && first + r < rows; r++) put(y + (first + r) * stride + at, out[v][r], here);
      }
    }
}

/* y[row][i] = sum_k w[i][k] x[row][k] for `count` weight rows; more than STREAM rows are read from the panel. */
static void product(const float *w, const float *x, const float *panel, int n, int rows, int count, float *y,
                    int64_t stride) {
#define STREAMED(R) \
  case R: \
    for (int i = 0; i < count; i++) stream(w + (int64_t)i * n, x, n, R, y + i, stride); \
    return;
  switch (rows) {
    case 1:
      for (int i = 0; i < count; i++) y[i] = dot(w + (int64_t)i * n, x, n);
      return;
    STREAMED(2) STREAMED(3) STREAMED(4) STREAMED(5) STREAMED(6) STREAMED(7) STREAMED(8)
    default: tiled(w, panel, n, rows, count, y, stride);
  }
}

/* Weight rows that a thread claims at once: an eighth of its share, but some microseconds of work. */
static int rows_a_chunk(const Op *op, int threads) {
  int64_t rows = op->kind == GATED ? op->seg_rows[0] : op->seg_rows[0] + op->seg_rows[1] + op->seg_rows[2];
  int64_t each = rows / (8 * threads), least = CHUNK / op->n + 1;
  each = each < least ? least : each;
  return (int)(each > MOST_EACH ? MOST_EACH : UP(each));
}

/* dst = act(cap(clip(scale * W x + bias))), one matrix of up to three that read the same x. */
static void linear(const Program *p, const Op *op, int chunk) {
  int each = op->each, s = 0;
  for (int here; chunk >= (here = (op->seg_rows[s] + each - 1) / each); s++) chunk -= here;
  const int from = chunk * each, all_of_it = op->seg_rows[s], to = from + each < all_of_it ? from + each : all_of_it;
  float *y = op->dst[s] + from;
  product(op->w[s] + (int64_t)from * op->n, op->src, p->panel, op->n, p->rows, to - from, y, all_of_it);
  const float *scale = op->src2, *bias = op->bias[s];
  if (!scale && !bias && op->a <= 0 && op->b <= 0 && !op->mode) return;
  for (int r = 0; r < p->rows; r++, y += all_of_it)
    for (int i = 0; i < to - from; i += LANES) {
      const int count = to - from - i;
      V x = take(y + i, count);
      if (scale) x *= take(scale + from + i, count);
      if (bias) x += take(bias + from + i, count);
      if (op->a > 0) x = clamped(x, -op->a, op->a);
      if (op->b > 0) x = op->b * tanh_of(x / op->b);
      put(y + i, activated(x, op->mode), count);
    }
}

/* dst = act(W0 x + b0) * (W1 x + b1). */
static void gated(const Program *p, const Op *op, int chunk) {
  const int total = op->seg_rows[0], begin = chunk * op->each;
  const int end = begin + op->each < total ? begin + op->each : total;
  float up[MOST_ROWS * GATE_ROWS];
  for (int from = begin; from < end; from += GATE_ROWS) {
    const int count = end - from < GATE_ROWS ? end - from : GATE_ROWS;
    const int64_t skip = (int64_t)from * op->n;
    float *y = op->dst[0] + from;
    product(op->w[0] + skip, op->src, p->panel, op->n, p->rows, count, y, total);
    product(op->w[1] + skip, op->src, p->panel, op->n, p->rows, count, up, GATE_ROWS);
    for (int r = 0; r < p->rows; r++, y += total)
      for (int i = 0; i < count; i += LANES) {
        V g = take(y + i, count - i), u = take(up + r * GATE_ROWS + i, count - i);
        if (op->bias[0]) g += take(op->bias[0] + from + i, count - i);
        if (op->bias[1]) u += take(op->bias[1] + from + i, count - i);
        put(y + i, activated(g, op->mode) * u, count - i);
      }
  }
}
