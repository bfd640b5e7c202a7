/* Attention of each row's newest token over the keys of its cache, or of the encoder's output; rotation of q and k. */

/* x' = x cos + J x sin on the first `size` features of every head; mode 0: pairs are neighbours, else axes. */
static void rotate(const Program *p, const Op *op, int row) {
  const int rotated = op->size, width = op->n, half = op->mode ? rotated / (2 * op->mode) : 1;
  const int64_t at = op->step * (p->origin ? p->origin[row] : row) + p->time * rotated;
  const float *cos = op->cos + at, *sin = op->sin + at;
  float *x = op->dst[0] + (int64_t)row * op->heads * width;
  for (int h = 0; h < op->heads; h++, x += width)
    for (int begin = 0; begin < rotated; begin += 2 * half)
      for (int i = begin; i < begin + half; i++) {
        float first = x[i], second = x[i + half];
        x[i] = first * cos[i] - second * sin[i];
        x[i + half] = second * cos[i + half] + first * sin[i + half];
      }
}

/* The sums of four registers, as `sum_of` adds them. */
INLINE V4 sums_of(V a, V b, V c, V d) {
  const V4 p = folded(a), q = folded(b), r = folded(c), s = folded(d);
  const V4 left = MIX4(p, q, 0, 4, 1, 5) + MIX4(p, q, 2, 6, 3, 7), right = MIX4(r, s, 0, 4, 1, 5) + MIX4(r, s, 2, 6, 3, 7);
  return MIX4(left, right, 0, 1, 4, 5) + MIX4(left, right, 2, 3, 6, 7);
}

/* score[j] = q k_j for `count` keys that follow one another, four at a time; whole: d is a multiple of LANES. */
INLINE void scores_with(const float *q, const float *k, int d, int64_t count, float *score, const int whole) {
  int64_t j = 0;
  for (; j + 4 <= count; j += 4) {
    const float *at = k + j * d;
    V sum[4] = {{0}};
    for (int i = 0; i < d; i += LANES) {
      const int left = whole ? LANES : d - i;
      const V x = take(q + i, left);
#pragma GCC unroll 4
      for (int s = 0; s < 4; s++) sum[s] += x * take(at + s * d + i, left);
    }
    const V4 four = sums_of(sum[0], sum[1], sum[2], sum[3]);
    memcpy(score + j, &four, sizeof four);
  }
  for (; j < count; j++) {
    V a = {0};
    for (int i = 0; i < d; i += LANES) a += take(q + i, whole ? LANES : d - i) * take(k + j * d + i, whole ? LANES : d - i);
    score[j] = sum_of(a);
  }
}

static void scores_of(const float *q, const float *k, int d, int64_t count, float *score) {
  if (d % LANES) scores_with(q, k, d, count, score, 0);
  else scores_with(q, k, d, count, score, 1);
}

/* out += sum_j share[j] v_j for `count` values that follow one another. */
static void mix(const float *share, const float *v, int d, int64_t count, float *out) {
  int i = 0;
  for (; i + 4 * LANES <= d; i += 4 * LANES) {
    V a[4], b[4] = {{0}};
    for (int s = 0; s < 4; s++) a[s] = load(out + i + s * LANES);
    int64_t j = 0;
    for (; j + 2 <= count; j += 2) {
      const float *at = v + j * d + i;
#pragma GCC unroll 4
      for (int s = 0; s < 4; s++) {
        a[s] += share[j] * load(at + s * LANES);
        b[s] += share[j + 1] * load(at + d + s * LANES);
      }
    }
    if (j < count)
      for (int s = 0; s < 4; s++) a[s] += share[j] * load(v + j * d + i + s * LANES);
    for (int s = 0; s < 4; s++) store(out + i + s * LANES, a[s] + b[s]);
  }
  for (; i < d; i += LANES) {
    V a = take(out + i, d - i);
    for (int64_t j = 0; j < count; j++) a += share[j] * take(v + j * d + i, d - i);
    put(out + i, a, d - i);
  }
}

/* e^(s - most) in place; their sum. */
static float exponents(float *score, int64_t count) {
  float most = -INFINITY;
#pragma omp simd reduction(max : most)
  for (int64_t j = 0; j < count; j++) most = score[j] > most ? score[j] : most;
  V total = {0};
  for (int64_t j = 0; j < count; j += LANES) {
    const V e = exponential(take(score + j, count - j) - most);
    put(score + j, e, count - j);
    total += take(score + j, count - j); /* what is behind the last one counts 0 */
  }
  return sum_of(total);
}

/* One row's head: softmax(q k^T a + bias) v. flag: keys of a memory, nothing is added to it. */
static void attend_head(const Program *p, const Op *op, int row, int head, int thread) {
  const int d = op->n, group = op->heads / op->kv_heads;
  const int origin = p->origin ? p->origin[row] : row;
  const int32_t *span = op->span ? op->span + 2 * origin : 0;
  const int32_t *where = !op->flag && p->where ? p->where + row * p->longest : 0;
  int64_t from = span ? span[0] : 0, end = !op->flag ? p->time + 1 : span ? span[1] : op->size;
  if (!op->flag && op->window > 0 && end - from > op->window) from = end - op->window;
  const int64_t a_row = (int64_t)op->kv_heads * op->capacity * d, in_row = (int64_t)(head / group) * op->capacity * d;
  const float *q = op->src + ((int64_t)row * op->heads + head) * d;
  float *out = op->dst[0] + ((int64_t)row * op->heads + head) * d, *score = p->scores + thread * p->longest;
  memset(out, 0, sizeof(float) * d);
  if (from >= end) return; /* a row that sees nothing gives nothing */
  /* Keys of one row of the cache are read as a run: all of them, but where beams have parted. */
#define RUNS(body) \
  for (int64_t j = from, next; j < end; j = next) { \
    const int held = op->flag ? origin : where ? where[j] : row; \
    next = end; \
    if (where) \
      for (next = j + 1; next < end && where[next] == held; next++) {} \
    const int64_t at = held * a_row + in_row + j * d, count = next - j; \
    body; \
  }
  RUNS(scores_of(q, op->k + at, d, count, score + j))
  const float *bias = op->bias_table ? op->bias_table + head * p->longest + end - 1 : 0;
  if (op->b > 0) {
    for (int64_t j = from; j < end; j += LANES)
      put(score + j, op->b * tanh_of(take(score + j, end - j) * op->a / op->b), end - j);
  } else
    for (int64_t j = from; j < end; j++) score[j] *= op->a;
  if (bias)
    for (int64_t j = from; j < end; j++) score[j] += bias[-j];
  const float total = exponents(score + from, end - from);
  RUNS(mix(score + j, op->v + at, d, count, out))
  for (int i = 0; i < d; i++) out[i] /= total;
}

/* `each` heads of a row, those that share keys one after another. */
static void attend(const Program *p, const Op *op, int chunk, int thread) {
  for (int unit = chunk * op->each; unit < (chunk + 1) * op->each; unit++)
    attend_head(p, op, unit / op->heads, unit % op->heads, thread);
}

/* Where rows are few, a head is a chunk, so that no thread waits long. */
static int heads_a_chunk(const Op *op, int rows, int threads) {
  return rows * op->kv_heads >= 8 * threads ? op->heads / op->kv_heads : 1;
}

/* The newest key and value of every row into its own row of the cache. */
static void keep(const Program *p, const Op *op) {
  const size_t head = sizeof(float) * op->n;
  for (int64_t i = 0; i < (int64_t)p->rows * op->kv_heads; i++) {
    const int64_t at = (i * op->capacity + p->time) * op->n;
    memcpy(op->k + at, op->src2 + i * op->n, head);
    memcpy(op->v + at, op->w[0] + i * op->n, head);
  }
}
