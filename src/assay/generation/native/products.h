/* Products of all rows with a matrix that is read once: dst = act(W x + b), and the gated pair.
 *
 * One row: a weight row at a time, so that the weights are one stream from begin to end, which the processor's
 * prefetcher follows. Up to STREAM rows: the same stream, every register of weights multiplied by all rows while it is
 * held. More: the rows are laid side by side (`pack`), so that a register holds one feature of several rows and each
 * weight is broadcast once; no sum runs across a register. Where `library.py` defines BLOCKED, up to so many rows go four
 * weight rows by four rows at a time instead, whose sixteen sums are in registers, so that what is fetched is used four
 * times. docs/log.md has the measurements.
 */
#define CHUNK 16384 /* weights a chunk: about 3 microseconds of reading */
#define MOST_EACH 4096
#define STREAM 8
#define AHEAD 1024 /* weights between the one that is read and the one that is asked for: 4 KB */
#define MOST_ROWS 256
#define LINE 16 /* floats of a cache line; rows that are laid side by side come in as many */

/* SIDE rows side by side; the sums of TILE weight rows with all of them are held in registers. */
#if LANES == 16
#define SIDE 32
#define TILE 8
#elif LANES == 8
#define SIDE 16
#define TILE 6
#else
#define SIDE 16
#define TILE 2
#endif
#define FEW (LINE / TILE * TILE)     /* weight rows whose products are turned together: whole tiles */
#define GATE_ROWS (64 / FEW * FEW) /* of the gate's matrix before as many of the other's */

#if defined(__clang__) || __GNUC__ >= 12
#define MIX4 __builtin_shufflevector
#else
typedef int32_t I4 __attribute__((vector_size(16)));
#define MIX4(x, y, ...) __builtin_shuffle(x, y, (I4){__VA_ARGS__})
#endif

/* Ask for `lines` of sixteen weights that are read AHEAD from here: the rows follow one another in memory. */
INLINE void ask(const float *w, const int lines) {
#pragma GCC unroll 8
  for (int i = 0; i < lines; i++) __builtin_prefetch(w + AHEAD + i * LINE, 0, 2);
}

static inline float dot(const float *w, const float *x, int n) {
  V sum[4] = {{0}};
  int i = 0;
  for (; i + 4 * LANES <= n; i += 4 * LANES) {
    ask(w + i, 4 * LANES / LINE);
#pragma GCC unroll 4
    for (int s = 0; s < 4; s++) sum[s] += load(w + i + s * LANES) * load(x + i + s * LANES);
  }
  for (; i + LANES <= n; i += LANES) sum[0] += load(w + i) * load(x + i);
  if (i < n) sum[1] += some(w + i, n - i) * some(x + i, n - i);
  return sum_of((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

INLINE void stream(const float *w, const float *x, int n, const int rows, float *y, int64_t stride) {
  V even[STREAM], odd[STREAM];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++) even[r] = odd[r] = (V){0};
  int i = 0;
  if (rows <= 4) /* too few sums at once to hide a multiplication's latency */
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
      const V first = load(w + i), second = load(w + i + LANES);
      ask(w + i, LANES > 8 ? 2 : 1);
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

#if LANES == 16 && defined(BLOCKED)
/* Sums of neighbours: of a's lanes, then of b's. */
INLINE V joined(V a, V b) {
  return MIX(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
         MIX(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

/* sum[4 r + i] += the products of LANES features, or of the `rest`, of four rows with four weight rows. */
INLINE void add_block(V sum[16], const float *const w[4], const float *const x[4], int k, const int rest) {
  V here[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) here[i] = rest ? some(w[i] + k, rest) : load(w[i] + k);
#pragma GCC unroll 4
  for (int r = 0; r < 4; r++) {
    const V row = rest ? some(x[r] + k, rest) : load(x[r] + k);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) sum[4 * r + i] += here[i] * row;
  }
}

/* y[r][i] of `have` rows and `count` weight rows, four of either at most; `lines` of `ahead` are asked for at each turn. */
INLINE void block(const float *w, const float *x, int n, int have, int count, const float *ahead, const int lines, float *y,
                  int64_t stride) {
  const float *weights[4], *rows[4];
  V sum[16];
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) { /* those that are not there are computed as the last one is, and not kept */
    weights[j] = w + (int64_t)(j < count ? j : count - 1) * n;
    rows[j] = x + (int64_t)(j < have ? j : have - 1) * n;
  }
#pragma GCC unroll 16
  for (int j = 0; j < 16; j++) sum[j] = (V){0};
  int k = 0;
  for (; k + LANES <= n; k += LANES) {
    add_block(sum, weights, rows, k, 0);
#pragma GCC unroll 2
    for (int i = 0; i < lines; i++) __builtin_prefetch(ahead + (int64_t)k * lines + i * LINE, 0, 2);
  }
  if (k < n) add_block(sum, weights, rows, k, n - k);
#pragma GCC unroll 8
  for (int j = 0; j < 8; j++) sum[j] = joined(sum[2 * j], sum[2 * j + 1]);
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) sum[j] = joined(sum[2 * j], sum[2 * j + 1]);
#pragma GCC unroll 2
  for (int j = 0; j < 2; j++) sum[j] = joined(sum[2 * j], sum[2 * j + 1]);
  float all[16];
  *(V *)all = joined(sum[0], sum[1]);
  for (int r = 0; r < have; r++)
    for (int i = 0; i < count; i++) y[r * stride + i] = all[4 * r + i];
}

/* Groups of four rows: of up to three each asks for two of every four lines of the next four weight rows, of more for one. */
static void blocked(const float *w, const float *x, int n, int rows, int count, float *y, int64_t stride) {
  for (int i = 0; i < count; i += 4) {
    const int here = count - i < 4 ? count - i : 4;
    const float *from = w + (int64_t)i * n, *ahead = from + (int64_t)4 * n;
    for (int r = 0; r < rows; r += 4) {
      const int have = rows - r < 4 ? rows - r : 4;
      if (rows > 12) block(from, x + (int64_t)r * n, n, have, here, ahead + (r / 4) * n, 1, y + r * stride + i, stride);
      else block(from, x + (int64_t)r * n, n, have, here, ahead + (r / 4) * 2 * n, 2, y + r * stride + i, stride);
    }
  }
}
#else
#undef BLOCKED
#define BLOCKED STREAM
#endif

/* The same as `turn` of LANES rows and columns at most. */
INLINE void turn_square(const float *from, int64_t step, int have, float *to, int64_t to_step, int want, int width) {
  V t[LANES];
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++) t[i] = i < have ? take(from + i * step, want) : all(0);
  transpose(t);
#pragma GCC unroll 16
  for (int j = 0; j < want && j < LANES; j++) put(to + j * to_step, t[j], width);
}

/* to[j][i] = from[i][j] for j < want, i < width, at most 16 each; rows of `from` behind the `have` that there are count 0. */
static void turn(const float *from, int64_t step, int have, float *to, int64_t to_step, int want, int width) {
  for (int i = 0; i < width; i += LANES)
    for (int j = 0; j < want; j += LANES)
      turn_square(from + i * step + j, step, have - i, to + j * to_step + i, to_step, want - j, width - i);
}

/* Groups of SIDE rows, [n][SIDE] each; the last one has 16 where no more are needed. */
INLINE int group_of(int rows, int group) { return rows - group * SIDE > LINE ? SIDE : LINE; }

static void pack(const float *x, int n, int rows, float *panel) {
  for (int from = 0; from < rows; from += LINE) {
    const int group = from / SIDE, wide = group_of(rows, group), have = rows - from < LINE ? rows - from : LINE;
    float *to = panel + (int64_t)group * SIDE * n + from % SIDE;
    for (int i = 0; i < n; i += LINE)
      turn(x + (int64_t)from * n + i, n, have, to + (int64_t)i * wide, wide, n - i < LINE ? n - i : LINE, LINE);
  }
}

/* out[i][row] = a group's products with weight row i < count; `ahead`: weights to ask for meanwhile. */
INLINE void tile(const float *w, const float *panel, int n, const int wide, const int count, const float *ahead,
                 float out[FEW][SIDE]) {
  V sum[TILE][SIDE / LANES];
#pragma GCC unroll 8
  for (int i = 0; i < count; i++)
#pragma GCC unroll 4
    for (int v = 0; v < wide / LANES; v++) sum[i][v] = (V){0};
  for (int from = 0; from < n; from += LINE) {
    const int to = from + LINE < n ? from + LINE : n;
    if (count == TILE)
#pragma GCC unroll 8
      for (int i = 0; i < TILE; i++) __builtin_prefetch(ahead + (from / LINE * TILE + i) * LINE, 0, 2);
#pragma GCC unroll 2
    for (int k = from; k < to; k++) {
      V side[SIDE / LANES];
#pragma GCC unroll 4
      for (int v = 0; v < wide / LANES; v++) side[v] = load(panel + (int64_t)k * wide + v * LANES);
#pragma GCC unroll 8
      for (int i = 0; i < count; i++) {
        const float weight = w[(int64_t)i * n + k];
#pragma GCC unroll 4
        for (int v = 0; v < wide / LANES; v++) sum[i][v] += weight * side[v];
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < count; i++)
#pragma GCC unroll 4
    for (int v = 0; v < wide / LANES; v++) *(V *)(out[i] + v * LANES) = sum[i][v];
}

INLINE void tiles(const float *w, const float *panel, int n, const int wide, int count, float out[FEW][SIDE]) {
  int i = 0;
  for (; i + TILE <= count; i += TILE) tile(w + (int64_t)i * n, panel, n, wide, TILE, w + (int64_t)(i + TILE) * n, out + i);
  for (; i < count; i++) tile(w + (int64_t)i * n, panel, n, wide, 1, w, out + i);
}

static void tiled(const float *w, const float *panel, int n, int rows, int count, float *y, int64_t stride) {
  float out[FEW][SIDE];
  for (int at = 0; at < count; at += FEW)
    for (int group = 0; group * SIDE < rows; group++) {
      const int here = count - at < FEW ? count - at : FEW, wide = group_of(rows, group);
      const float *from = w + (int64_t)at * n, *side = panel + (int64_t)group * SIDE * n;
      if (wide > LINE) tiles(from, side, n, SIDE, here, out);
      else tiles(from, side, n, LINE, here, out);
      for (int first = group * SIDE; first < rows && first < group * SIDE + wide; first += LINE)
        turn(out[0] + first % SIDE, SIDE, here, y + first * stride + at, stride,
             rows - first < LINE ? rows - first : LINE, here);
    }
}

/* y[row][i] = sum_k w[i][k] x[row][k] for `count` weight rows; more than BLOCKED rows are read from the panel. */
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
    default:;
  }
#if BLOCKED > STREAM
  if (rows <= BLOCKED) {
    blocked(w, x, n, rows, count, y, stride);
    return;
  }
#endif
  tiled(w, panel, n, rows, count, y, stride);
}

/* Weight rows that a thread claims at once: an eighth of its share, but some microseconds of work. */
static int rows_a_chunk(const Op *op, int threads) {
  int64_t rows = op->kind == GATED ? op->seg_rows[0] : op->seg_rows[0] + op->seg_rows[1] + op->seg_rows[2];
  int64_t each = rows / (8 * threads), least = CHUNK / op->n + 1;
  each = each < least ? least : each;
  return (int)(each > MOST_EACH ? MOST_EACH : (each + FEW - 1) / FEW * FEW);
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
