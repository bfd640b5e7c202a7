/* Products of all rows with a matrix that is read once: dst = act(W x + b), and the gated pair.
 *
 * One row: a weight row at a time, so that the weights are one stream from begin to end, which the processor's
 * prefetcher follows. Up to STREAM rows: the same stream, every sixteen weights multiplied by all rows while they are in
 * a register. Up to BLOCKED rows: four weight rows by four rows at a time, whose sixteen sums are in registers, so that
 * what is fetched is used four times; the next four weight rows are asked for meanwhile. More: the rows are laid side by
 * side (`pack`), so that a register holds one feature of sixteen rows and each weight is broadcast once; no sum runs
 * across a register. docs/log.md has the measurements.
 */
#define CHUNK 16384 /* weights a chunk: about 3 microseconds of reading */
#define MOST_EACH 4096
#define STREAM 8
#define AHEAD 1024 /* weights between the one that is read and the one that is asked for: 4 KB */
#define MOST_ROWS 256
#define GATE_ROWS 64 /* of the gate's matrix before as many of the other's */

/* REG floats fill a register: wider vectors would live in memory here. SIDE rows side by side; the sums of TILE weight rows
 * with all of them are held in registers. */
#if defined(__AVX512F__)
#define REG 16
#define SIDE 32
#define TILE 8
#elif defined(__AVX__)
#define REG 8
#define SIDE 16
#define TILE 4
#else
#define REG 4
#define SIDE 16
#define TILE 2
#endif

#if defined(__clang__) || __GNUC__ >= 12
#define MIX __builtin_shufflevector
#define MIX4 __builtin_shufflevector
#else
typedef int32_t I4 __attribute__((vector_size(16)));
#define MIX(x, y, ...) __builtin_shuffle(x, y, (I){__VA_ARGS__})
#define MIX4(x, y, ...) __builtin_shuffle(x, y, (I4){__VA_ARGS__})
#endif

typedef float X __attribute__((vector_size(4 * REG), aligned(4), may_alias));
INLINE X get(const float *p) { return *(const X *)p; }
INLINE X get_some(const float *p, int count) {
  X x = {0};
  memcpy(&x, p, count * sizeof(float));
  return x;
}
INLINE float total(X x) {
#if REG == LANES
  return sum_of(x);
#else
  float part[REG];
  memcpy(part, &x, sizeof x);
  for (int step = REG / 2; step; step /= 2)
    for (int i = 0; i < step; i++) part[i] += part[i + step];
  return part[0];
#endif
}

/* Ask for `lines` of sixteen weights that are read AHEAD from here: the rows follow one another in memory. */
INLINE void ask(const float *w, const int lines) {
#pragma GCC unroll 8
  for (int i = 0; i < lines; i++) __builtin_prefetch(w + AHEAD + i * LANES, 0, 2);
}

static inline float dot(const float *w, const float *x, int n) {
  X sum[4] = {{0}};
  int i = 0;
  for (; i + 4 * REG <= n; i += 4 * REG) {
    ask(w + i, 4 * REG / LANES);
#pragma GCC unroll 4
    for (int s = 0; s < 4; s++) sum[s] += get(w + i + s * REG) * get(x + i + s * REG);
  }
  for (; i + REG <= n; i += REG) sum[0] += get(w + i) * get(x + i);
  if (i < n) sum[1] += get_some(w + i, n - i) * get_some(x + i, n - i);
  return total((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

INLINE void stream(const float *w, const float *x, int n, const int rows, float *y, int64_t stride) {
  X even[STREAM], odd[STREAM];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++) even[r] = odd[r] = (X){0};
  int i = 0;
  if (rows <= 4) /* too few sums at once to hide a multiplication's latency */
    for (; i + 2 * REG <= n; i += 2 * REG) {
      const X first = get(w + i), second = get(w + i + REG);
      ask(w + i, REG > 8 ? 2 : 1);
#pragma GCC unroll 8
      for (int r = 0; r < rows; r++) {
        even[r] += first * get(x + (int64_t)r * n + i);
        odd[r] += second * get(x + (int64_t)r * n + i + REG);
      }
    }
  for (; i + REG <= n; i += REG) {
    const X here = get(w + i);
    ask(w + i, 1);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) even[r] += here * get(x + (int64_t)r * n + i);
  }
  if (i < n)
    for (int r = 0; r < rows; r++) even[r] += get_some(w + i, n - i) * get_some(x + (int64_t)r * n + i, n - i);
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++) y[r * stride] = total(even[r] + odd[r]);
}

#if REG == LANES
#define BLOCKED 24
/* Sums of neighbours: of a's lanes, then of b's. */
INLINE X joined(X a, X b) {
  return MIX(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
         MIX(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

/* sum[4 r + i] += the products of REG features, or of `some`, of four rows with four weight rows. */
INLINE void add_block(X sum[16], const float *const w[4], const float *const x[4], int k, const int some) {
  X here[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) here[i] = some ? get_some(w[i] + k, some) : get(w[i] + k);
#pragma GCC unroll 4
  for (int r = 0; r < 4; r++) {
    const X row = some ? get_some(x[r] + k, some) : get(x[r] + k);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) sum[4 * r + i] += here[i] * row;
  }
}

/* y[r][i] of `have` rows and `count` weight rows, four of either at most; `lines` of `ahead` are asked for at each turn. */
INLINE void block(const float *w, const float *x, int n, int have, int count, const float *ahead, const int lines, float *y,
                  int64_t stride) {
  const float *weights[4], *rows[4];
  X sum[16];
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) { /* those that are not there are computed as the last one is, and not kept */
    weights[j] = w + (int64_t)(j < count ? j : count - 1) * n;
    rows[j] = x + (int64_t)(j < have ? j : have - 1) * n;
  }
#pragma GCC unroll 16
  for (int j = 0; j < 16; j++) sum[j] = (X){0};
  int k = 0;
  for (; k + REG <= n; k += REG) {
    add_block(sum, weights, rows, k, 0);
#pragma GCC unroll 2
    for (int i = 0; i < lines; i++) __builtin_prefetch(ahead + (int64_t)k * lines + i * LANES, 0, 2);
  }
  if (k < n) add_block(sum, weights, rows, k, n - k);
#pragma GCC unroll 8
  for (int j = 0; j < 8; j++) sum[j] = joined(sum[2 * j], sum[2 * j + 1]);
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) sum[j] = joined(sum[2 * j], sum[2 * j + 1]);
#pragma GCC unroll 2
  for (int j = 0; j < 2; j++) sum[j] = joined(sum[2 * j], sum[2 * j + 1]);
  float all[16];
  *(X *)all = joined(sum[0], sum[1]);
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
#define BLOCKED STREAM
#endif

/* to[j][i] = from[i][j] for j < want, i < width, at most 16 each; rows of `from` behind the `have` that there are count 0. */
static void turn(const float *from, int64_t step, int have, float *to, int64_t to_step, int want, int width) {
#if REG == LANES
  V t[LANES];
  for (int i = 0; i < LANES; i++) t[i] = i < have ? take(from + i * step, want) : all(0);
  /* Interleaving first half and second turns the index of an element by a bit; four times is all of it. */
  for (int round = 0; round < 4; round++) {
    V u[LANES];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
      u[2 * i] = MIX(t[i], t[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      u[2 * i + 1] = MIX(t[i], t[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
    memcpy(t, u, sizeof u);
  }
  for (int j = 0; j < want; j++) put(to + j * to_step, t[j], width);
#else
  for (int j = 0; j < want; j++)
    for (int i = 0; i < width; i++) to[j * to_step + i] = i < have ? from[i * step + j] : 0;
#endif
}

/* Groups of SIDE rows, [n][SIDE] each; the last one has 16 where no more are needed. */
INLINE int group_of(int rows, int group) { return rows - group * SIDE > LANES ? SIDE : LANES; }

static void pack(const float *x, int n, int rows, float *panel) {
  for (int from = 0; from < rows; from += LANES) {
    const int group = from / SIDE, wide = group_of(rows, group), have = rows - from < LANES ? rows - from : LANES;
    float *to = panel + (int64_t)group * SIDE * n + from % SIDE;
    for (int i = 0; i < n; i += LANES)
      turn(x + (int64_t)from * n + i, n, have, to + (int64_t)i * wide, wide, n - i < LANES ? n - i : LANES, LANES);
  }
}

/* out[i][row] = a group's products with weight row i < count; `ahead`: weights to ask for meanwhile. */
INLINE void tile(const float *w, const float *panel, int n, const int wide, const int count, const float *ahead,
                 float out[LANES][SIDE]) {
  X sum[TILE][SIDE / REG];
#pragma GCC unroll 8
  for (int i = 0; i < count; i++)
#pragma GCC unroll 4
    for (int v = 0; v < wide / REG; v++) sum[i][v] = (X){0};
  for (int from = 0; from < n; from += LANES) {
    const int to = from + LANES < n ? from + LANES : n;
    if (count == TILE)
#pragma GCC unroll 8
      for (int i = 0; i < TILE; i++) __builtin_prefetch(ahead + (from / LANES * TILE + i) * LANES, 0, 2);
#pragma GCC unroll 2
    for (int k = from; k < to; k++) {
      X side[SIDE / REG];
#pragma GCC unroll 4
      for (int v = 0; v < wide / REG; v++) side[v] = get(panel + (int64_t)k * wide + v * REG);
#pragma GCC unroll 8
      for (int i = 0; i < count; i++) {
        const float weight = w[(int64_t)i * n + k];
#pragma GCC unroll 4
        for (int v = 0; v < wide / REG; v++) sum[i][v] += weight * side[v];
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < count; i++)
#pragma GCC unroll 4
    for (int v = 0; v < wide / REG; v++) *(X *)(out[i] + v * REG) = sum[i][v];
}

INLINE void tiles(const float *w, const float *panel, int n, const int wide, int count, float out[LANES][SIDE]) {
  int i = 0;
  for (; i + TILE <= count; i += TILE) tile(w + (int64_t)i * n, panel, n, wide, TILE, w + (int64_t)(i + TILE) * n, out + i);
  for (; i < count; i++) tile(w + (int64_t)i * n, panel, n, wide, 1, w, out + i);
}

static void tiled(const float *w, const float *panel, int n, int rows, int count, float *y, int64_t stride) {
  float out[LANES][SIDE];
  for (int at = 0; at < count; at += LANES)
    for (int group = 0; group * SIDE < rows; group++) {
      const int here = count - at < LANES ? count - at : LANES, wide = group_of(rows, group);
      const float *from = w + (int64_t)at * n, *side = panel + (int64_t)group * SIDE * n;
      if (wide > LANES) tiles(from, side, n, SIDE, here, out);
      else tiles(from, side, n, LANES, here, out);
      for (int first = group * SIDE; first < rows && first < group * SIDE + wide; first += LANES)
        turn(out[0] + first % SIDE, SIDE, here, y + first * stride + at, stride,
             rows - first < LANES ? rows - first : LANES, here);
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
#if REG == LANES
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
