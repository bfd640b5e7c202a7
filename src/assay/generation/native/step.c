/* One decoding step of one row as a flat program: a list of operations over float32 buffers, run in order.
 *
 * Why: a step reads every weight once, so memory bandwidth bounds it. Called one by one from Python, the small
 * operations between the matrices cost more than they compute, and library matrix-vector products reach about half of
 * the bandwidth on matrices a few hundred columns wide. `program.py` writes the list from the model's modules.
 *
 * Threads claim chunks of an operation one at a time, and an operation is over when its chunks are: a thread that the
 * system has put aside before it claimed a chunk delays nobody.
 */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ __volatile__("yield")
#else
#define RELAX() ((void)0)
#endif

enum { EMBED, ADD_ROW, NORM, LINEAR, GATED, ROTATE, ATTEND, SUM };
enum { LINEAR_ACT, RELU, GELU, GELU_TANH, SILU, RELU2 };
enum { LAYERNORM, RMSNORM, DYT };

#define CHUNK 16384 /* weights a chunk: about 3 microseconds of reading */
#define MOST_ROWS 4096
#define PARALLEL 32768 /* multiply-adds below which one thread is quicker alone */

typedef struct {
  int32_t kind, mode, n, rows, heads, kv_heads, window, flag;
  int32_t seg_rows[3], capacity, each, unused;
  float a, b, c, d;
  const float *src, *src2, *bias_table, *cos, *sin;
  const float *w[3], *bias[3];
  float *dst[3];
  float *k, *v;
  const int64_t *index;
} Op;

typedef struct {
  int64_t token, time; /* the row's newest token; how many keys came before it */
} Now;

typedef struct {
  const Op *op;
  int32_t chunks;
} Shared;

typedef struct {
  Op *ops;
  int32_t count, threads;
  Now now;
  float *scores; /* [heads][longest] */
  int64_t longest;
  _Atomic uint64_t claim; /* sequence number << 32 | next chunk */
  _Atomic uint32_t sequence, finished;
  _Atomic int active, quit;
  Shared shared[4]; /* by sequence number: a late thread still finds what its number meant */
  pthread_t *pool;
  pthread_mutex_t lock;
  pthread_cond_t wake;
} Program;

/* exp by 2^k and a polynomial (Cephes expf): relative error 2e-7, and it vectorises. */
static inline float quick_exp(float x) {
  x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  float k = floorf(x * 1.44269504f + 0.5f);
  float r = x - k * 0.693359375f + k * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  union { int32_t i; float f; } scale = {((int32_t)k + 127) << 23};
  return p * scale.f;
}

static inline float activate(float x, int act) {
  switch (act) {
    case RELU: return x > 0 ? x : 0;
    case GELU: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case SILU: return x / (1.0f + quick_exp(-x));
    case RELU2: return x > 0 ? x * x : 0;
    default: return x;
  }
}

typedef float Vector __attribute__((vector_size(64), aligned(4), may_alias));
#define AT(p) (*(const Vector *)(p))

static inline float sum_of(Vector v) {
  float s = 0;
  for (int i = 0; i < 16; i++) s += v[i];
  return s;
}

/* One row at a time keeps the weights one stream from begin to end, which the processor's prefetcher follows: 22 to
 * 25 GB/s on one core where four rows at once, and the library's own product, reach 8 to 14. */
static inline float dot(const float *w, const float *x, int n) {
  Vector a = {0}, b = {0}, c = {0}, d = {0};
  int i = 0;
  for (; i + 64 <= n; i += 64) {
    a += AT(w + i) * AT(x + i);
    b += AT(w + i + 16) * AT(x + i + 16);
    c += AT(w + i + 32) * AT(x + i + 32);
    d += AT(w + i + 48) * AT(x + i + 48);
  }
  for (; i + 16 <= n; i += 16) a += AT(w + i) * AT(x + i);
  float s = sum_of((a + b) + (c + d));
  for (; i < n; i++) s += w[i] * x[i];
  return s;
}

static void rows_of(const float *w, const float *x, int n, int from, int to, float *y) {
  for (int r = from; r < to; r++) y[r - from] = dot(w + (int64_t)r * n, x, n);
}

/* Rows that a thread claims at once: an eighth of its share, but some microseconds of reading. */
static int rows_a_chunk(const Op *op, int threads) {
  int64_t rows = op->kind == GATED ? op->seg_rows[0] : op->seg_rows[0] + op->seg_rows[1] + op->seg_rows[2];
  int64_t each = rows / (8 * threads), least = CHUNK / op->n + 1;
  each = each < least ? least : each;
  return (int)(each > MOST_ROWS ? MOST_ROWS : each);
}

static int chunks_of(const Op *op) {
  if (op->kind == ATTEND) return op->heads;
  int total = 0;
  for (int s = 0; s < (op->kind == GATED ? 1 : 3); s++) total += (op->seg_rows[s] + op->each - 1) / op->each;
  return total;
}

/* dst = scale * act(cap(clip(W x + bias))), one matrix of up to three that read the same x. */
static void linear(const Op *op, int chunk) {
  int each = op->each, s = 0;
  for (int here; chunk >= (here = (op->seg_rows[s] + each - 1) / each); s++) chunk -= here;
  int from = chunk * each, to = from + each < op->seg_rows[s] ? from + each : op->seg_rows[s];
  float *y = op->dst[s] + from;
  rows_of(op->w[s], op->src, op->n, from, to, y);
  for (int r = from; r < to; r++) {
    float value = y[r - from];
    if (op->src2) value *= op->src2[r];
    if (op->bias[s]) value += op->bias[s][r];
    if (op->a > 0) value = value > op->a ? op->a : value < -op->a ? -op->a : value;
    if (op->b > 0) value = op->b * tanhf(value / op->b);
    y[r - from] = activate(value, op->mode);
  }
}

/* dst = act(W0 x + b0) * (W1 x + b1). */
static void gated(const Op *op, int chunk) {
  int each = op->each, from = chunk * each;
  int to = from + each < op->seg_rows[0] ? from + each : op->seg_rows[0];
  float *y = op->dst[0] + from;
  float up[MOST_ROWS];
  rows_of(op->w[0], op->src, op->n, from, to, y);
  rows_of(op->w[1], op->src, op->n, from, to, up);
  for (int r = 0; r < to - from; r++) {
    float g = y[r] + (op->bias[0] ? op->bias[0][from + r] : 0);
    float u = up[r] + (op->bias[1] ? op->bias[1][from + r] : 0);
    y[r] = activate(g, op->mode) * u;
  }
}

/* Norm of `rows` groups of `n` features. a: eps, b: scale after, c: divide by max/c first, d: DyT's alpha. */
static void norm(const Op *op) {
  float shrink = 1.0f;
  if (op->c > 0) {
    float most = 0;
    for (int i = 0; i < op->n * op->rows; i++) most = fmaxf(most, fabsf(op->src[i]));
    shrink = op->c / most;
  }
  for (int g = 0; g < op->rows; g++) {
    const float *x = op->src + g * op->n, *w = op->w[0], *bias = op->bias[0];
    float *y = op->dst[0] + g * op->n, mean = 0, factor;
    int n = op->n;
    if (op->mode == DYT) {
      for (int i = 0; i < n; i++) {
        float v = tanhf(op->d * (x[i] * shrink));
        v = w ? v * w[i] : v;
        y[i] = (bias ? v + bias[i] : v) * op->b;
      }
      continue;
    }
    float square = 0;
    if (op->mode == LAYERNORM) {
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int i = 0; i < n; i++) sum += x[i] * shrink;
      mean = sum / n;
#pragma omp simd reduction(+ : square)
      for (int i = 0; i < n; i++) {
        float v = x[i] * shrink - mean;
        square += v * v;
      }
      factor = 1.0f / sqrtf(square / n + op->a);
    } else {
#pragma omp simd reduction(+ : square)
      for (int i = 0; i < op->flag; i++) {
        float v = x[i] * shrink;
        square += v * v;
      }
      factor = 1.0f / sqrtf(square / op->flag + op->a);
    }
    for (int i = 0; i < n; i++) {
      float v = (x[i] * shrink - mean) * factor;
      v = w ? v * w[i] : v;
      y[i] = (bias ? v + bias[i] : v) * op->b;
    }
  }
}

/* x' = x cos + J x sin on the first `rows` features of every head; mode 0: pairs are neighbours, else axes. */
static void rotate(const Op *op, int64_t time) {
  int rotated = op->rows, width = op->n;
  const float *cos = op->cos + time * rotated, *sin = op->sin + time * rotated;
  for (int h = 0; h < op->heads; h++) {
    float *x = op->dst[0] + h * width;
    int half = op->mode ? rotated / (2 * op->mode) : 1;
    for (int begin = 0; begin < rotated; begin += 2 * half)
      for (int i = begin; i < begin + half; i++) {
        float first = x[i], second = x[i + half];
        x[i] = first * cos[i] - second * sin[i];
        x[i + half] = second * cos[i + half] + first * sin[i + half];
      }
  }
}

/* One head's softmax(q k^T a + bias) v. flag: keys of a memory (rows of them), nothing is added to it. */
static void attend(const Program *p, const Op *op, int head) {
  int d = op->n, group = op->heads / op->kv_heads;
  int64_t keys = op->flag ? op->rows : p->now.time + 1, from = 0;
  if (!op->flag && op->window > 0 && keys > op->window) from = keys - op->window;
  const float *q = op->src + (int64_t)head * d;
  const float *k = op->k + (int64_t)(head / group) * op->capacity * d;
  const float *v = op->v + (int64_t)(head / group) * op->capacity * d;
  const float *bias = op->bias_table ? op->bias_table + (int64_t)head * p->longest : 0;
  float *score = p->scores + (int64_t)head * p->longest, most = -INFINITY, total = 0;
  for (int64_t j = from; j < keys; j++) {
    float s = dot(q, k + j * d, d) * op->a;
    if (op->b > 0) s = op->b * tanhf(s / op->b);
    if (bias) s += bias[keys - 1 - j];
    score[j] = s;
    most = s > most ? s : most;
  }
#pragma omp simd reduction(+ : total)
  for (int64_t j = from; j < keys; j++) {
    score[j] = quick_exp(score[j] - most);
    total += score[j];
  }
  float *out = op->dst[0] + (int64_t)head * d;
  memset(out, 0, sizeof(float) * d);
  for (int64_t j = from; j < keys; j++) {
    float share = score[j];
    const float *row = v + j * d;
#pragma omp simd
    for (int i = 0; i < d; i++) out[i] += share * row[i];
  }
  for (int i = 0; i < d; i++) out[i] /= total;
}

static void chunk_of(const Program *p, const Op *op, int chunk) {
  if (op->kind == LINEAR) linear(op, chunk);
  else if (op->kind == GATED) gated(op, chunk);
  else attend(p, op, chunk);
}

static void work(Program *p, uint32_t sequence) {
  for (;;) {
    uint64_t claim = atomic_load_explicit(&p->claim, memory_order_acquire);
    if ((uint32_t)(claim >> 32) != sequence) return;
    int chunk = (int)(uint32_t)claim;
    Shared here = p->shared[sequence & 3];
    if (chunk >= here.chunks) return;
    if (!atomic_compare_exchange_weak(&p->claim, &claim, claim + 1)) continue;
    chunk_of(p, here.op, chunk);
    atomic_fetch_add_explicit(&p->finished, 1, memory_order_release);
  }
}

static void *worker(void *argument) {
  Program *p = argument;
  uint32_t seen = 0;
  int idle = 0;
  while (!atomic_load(&p->quit)) {
    uint32_t now = atomic_load_explicit(&p->sequence, memory_order_acquire);
    if (now != seen) {
      seen = now, idle = 0;
      work(p, now);
    } else if (++idle < 1000 || atomic_load(&p->active)) {
      if (idle % 256 == 255) sched_yield();
      RELAX();
    } else if (idle < 1200)
      sched_yield();
    else {
      pthread_mutex_lock(&p->lock);
      while (!atomic_load(&p->active) && !atomic_load(&p->quit)) pthread_cond_wait(&p->wake, &p->lock);
      pthread_mutex_unlock(&p->lock);
      idle = 0;
    }
  }
  return 0;
}

static void share(Program *p, const Op *op, int chunks) {
  uint32_t sequence = atomic_load_explicit(&p->sequence, memory_order_relaxed) + 1;
  p->shared[sequence & 3] = (Shared){op, chunks};
  atomic_store_explicit(&p->finished, 0, memory_order_relaxed);
  atomic_store_explicit(&p->claim, (uint64_t)sequence << 32, memory_order_release);
  atomic_store_explicit(&p->sequence, sequence, memory_order_release);
  work(p, sequence);
  for (int spins = 1; (int)atomic_load_explicit(&p->finished, memory_order_acquire) < chunks; spins++) {
    if (spins % 512 == 0) sched_yield();
    RELAX();
  }
}

static void keep(const Op *op, int64_t time) { /* the newest key and value into the cache */
  for (int h = 0; h < op->kv_heads; h++) {
    int64_t at = ((int64_t)h * op->capacity + time) * op->n;
    memcpy(op->k + at, op->src2 + (int64_t)h * op->n, sizeof(float) * op->n);
    memcpy(op->v + at, op->w[0] + (int64_t)h * op->n, sizeof(float) * op->n);
  }
}

static int64_t weight_of(const Program *p, const Op *op) {
  if (op->kind == LINEAR) return (int64_t)(op->seg_rows[0] + op->seg_rows[1] + op->seg_rows[2]) * op->n;
  if (op->kind == GATED) return 2 * (int64_t)op->seg_rows[0] * op->n;
  return 2 * (int64_t)op->heads * op->n * (op->flag ? op->rows : p->now.time + 1);
}

static void run(Program *p, const Op *op) {
  const float *x;
  float *y = op->dst[0];
  switch (op->kind) {
    case EMBED:
      x = op->src + p->now.token * op->n;
      for (int i = 0; i < op->n; i++) y[i] = x[i] * op->a;
      return;
    case ADD_ROW:
      x = op->src + op->index[p->now.time] * op->n;
      for (int i = 0; i < op->n; i++) y[i] += x[i];
      return;
    case NORM: norm(op); return;
    case ROTATE: rotate(op, p->now.time); return;
    case SUM: /* dst = a src + b src2 */
      for (int i = 0; i < op->n; i++) y[i] = op->a * op->src[i] + (op->src2 ? op->b * op->src2[i] : 0);
      return;
    case ATTEND:
      if (!op->flag) keep(op, p->now.time);
  }
  int chunks = chunks_of(op);
  if (p->threads > 1 && weight_of(p, op) >= PARALLEL) share(p, op, chunks);
  else
    for (int chunk = 0; chunk < chunks; chunk++) chunk_of(p, op, chunk);
}

int op_size(void) { return (int)sizeof(Op); }

Program *open_program(Op *ops, int count, int threads, float *scores, int64_t longest) {
  Program *p = calloc(1, sizeof(Program));
  if (!p) return 0;
  p->ops = ops, p->count = count, p->threads = threads, p->scores = scores, p->longest = longest;
  for (int i = 0; i < count; i++)
    if (ops[i].kind == LINEAR || ops[i].kind == GATED) ops[i].each = rows_a_chunk(&ops[i], threads);
  pthread_mutex_init(&p->lock, 0);
  pthread_cond_init(&p->wake, 0);
  p->pool = calloc(threads, sizeof(pthread_t));
  for (int t = 1; t < threads; t++)
    if (pthread_create(&p->pool[t], 0, worker, p)) {
      p->threads = t;
      break;
    }
  return p;
}

void step_program(Program *p, int64_t token, int64_t time) {
  p->now.token = token, p->now.time = time;
  if (p->threads > 1) {
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->active, 1);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
  }
  for (int i = 0; i < p->count; i++) run(p, &p->ops[i]);
  atomic_store(&p->active, 0);
}

void close_program(Program *p) {
  pthread_mutex_lock(&p->lock);
  atomic_store(&p->quit, 1);
  pthread_cond_broadcast(&p->wake);
  pthread_mutex_unlock(&p->lock);
  for (int t = 1; t < p->threads; t++) pthread_join(p->pool[t], 0);
  pthread_mutex_destroy(&p->lock);
  pthread_cond_destroy(&p->wake);
  free(p->pool);
  free(p);
}
