/* AdamW and the norm of all gradients over lists of tensors of floats in one call each.
 *
 * torch's fused kernel is as fast an element, but it is called once a tensor, and thousands of small tensors then
 * cost more in calls than in arithmetic. Threads share the elements of all tensors evenly. Results depend on no
 * number of threads: every element goes through the same vector code, and the norm is summed by fixed pieces.
 */
#include "vectors.h"

#define HALF (LANES / 2) /* floats, of which doubles fill a register */
typedef float Half __attribute__((vector_size(4 * HALF), aligned(4), may_alias));
typedef double D __attribute__((vector_size(8 * HALF), aligned(8), may_alias));
#define PIECE 16384 /* elements of a tensor whose squares are summed together; a multiple of LANES */

INLINE V root(V v) {
#if LANES == 16 && defined(__AVX512F__)
  return (V)_mm512_sqrt_ps((__m512)v);
#elif LANES == 8 && defined(__AVX__)
  return (V)_mm256_sqrt_ps((__m256)v);
#else
  for (int i = 0; i < LANES; i++) v[i] = sqrtf(v[i]);
  return v;
#endif
}

/* What a call is given, and where it puts the sums of pieces. */
typedef struct {
  int64_t count;
  const int64_t *tables, *sizes;
  double rate, beta1, beta2, eps, decay, factor, *sums;
} Job;

/* Does elements from..to of tensor t; `piece` counts the pieces of all tensors. */
typedef void Work(const Job *job, int64_t t, int64_t from, int64_t to, int64_t piece);

/* All pieces of all tensors, the elements shared evenly by the threads. */
INLINE void share(const Job *job, Work work, int threads) {
  int64_t elements = 0;
  for (int64_t t = 0; t < job->count; t++) elements += job->sizes[t];
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    int64_t me = 0, all = 1, seen = 0, piece = 0;
#ifdef _OPENMP
    me = omp_get_thread_num();
    all = omp_get_num_threads();
#endif
    int64_t first = elements / all * me, last = me + 1 == all ? elements : elements / all * (me + 1);
    for (int64_t t = 0; t < job->count && seen < last; t++) {
      int64_t n = job->sizes[t];
      for (int64_t from = 0; from < n; from += PIECE, piece++) {
        int64_t to = from + PIECE < n ? from + PIECE : n;
        if (seen >= first && seen < last) work(job, t, from, to, piece);
        seen += to - from;
      }
    }
  }
}

static void squares(const Job *job, int64_t t, int64_t from, int64_t to, int64_t piece) {
  const float *x = (const float *)job->tables[t];
  D low = {0}, high = {0};
  int64_t i = from;
  for (; i + LANES <= to; i += LANES) {
    D a = __builtin_convertvector(*(const Half *)(x + i), D);
    D b = __builtin_convertvector(*(const Half *)(x + i + HALF), D);
    low += a * a;
    high += b * b;
  }
  low += high;
  double sum = 0;
  for (int k = 0; k < HALF; k++) sum += low[k];
  for (; i < to; i++) sum += (double)x[i] * x[i];
  job->sums[piece] = sum;
}

/* The square root of the sum of squares of all elements of all tensors; negative without memory for the sums. */
double norm_of(int64_t count, const int64_t *tensors, const int64_t *sizes, int threads) {
  int64_t pieces = 0;
  for (int64_t t = 0; t < count; t++) pieces += (sizes[t] + PIECE - 1) / PIECE;
  Job job = {.count = count, .tables = tensors, .sizes = sizes};
  job.sums = malloc((size_t)(pieces + 1) * sizeof *job.sums);
  if (!job.sums) return -1;
  share(&job, squares, threads);
  double total = 0;
  for (int64_t p = 0; p < pieces; p++) total += job.sums[p];
  free(job.sums);
  return sqrt(total);
}

typedef struct {
  float factor, keep, beta1, beta2, eps, step_size, root_correction;
} Numbers;

INLINE void update(float *p, const float *g, float *m, float *v, Numbers n) {
  V grad = *(const V *)g * n.factor, first = *(V *)m, second = *(V *)v;
  first += (grad - first) * (1 - n.beta1);
  second = second * n.beta2 + grad * grad * (1 - n.beta2);
  *(V *)m = first;
  *(V *)v = second;
  *(V *)p = *(V *)p * n.keep - n.step_size * (first / (root(second) / n.root_correction + n.eps));
}

static void step(const Job *job, int64_t t, int64_t from, int64_t to, int64_t piece) {
  (void)piece;
  const int64_t *at = job->tables + t, count = job->count;
  float *p = (float *)at[0], *m = (float *)at[2 * count], *v = (float *)at[3 * count];
  const float *g = (const float *)at[count];
  double done = *(const float *)at[4 * count];
  Numbers n = {
      .factor = (float)job->factor, .keep = (float)(1 - job->rate * job->decay), .beta1 = (float)job->beta1, .beta2 = (float)job->beta2,
      .eps = (float)job->eps, .step_size = (float)(job->rate / (1 - pow(job->beta1, done))),
      .root_correction = (float)sqrt(1 - pow(job->beta2, done)),
  };
  int64_t i = from;
  for (; i + LANES <= to; i += LANES) update(p + i, g + i, m + i, v + i, n);
  if (i == to) return;
  float rest[4][LANES] = {{0}}; /* the rest through the same code, so that it rounds alike */
  size_t bytes = (size_t)(to - i) * sizeof(float);
  memcpy(rest[0], p + i, bytes);
  memcpy(rest[1], g + i, bytes);
  memcpy(rest[2], m + i, bytes);
  memcpy(rest[3], v + i, bytes);
  update(rest[0], rest[1], rest[2], rest[3], n);
  memcpy(p + i, rest[0], bytes);
  memcpy(m + i, rest[2], bytes);
  memcpy(v + i, rest[3], bytes);
}

/* One step of AdamW (Loshchilov & Hutter 2019), in the order in which torch's fused kernel computes.
 *
 * tables: count pointers each to weights, gradients, first moments, second moments and numbers of steps (a float
 * each, raised by one here). factor: what gradients are multiplied by as they are read.
 */
void adamw(int64_t count, const int64_t *tables, const int64_t *sizes, double rate, double beta1, double beta2,
           double eps, double decay, double factor, int threads) {
  for (int64_t t = 0; t < count; t++) *(float *)tables[4 * count + t] += 1;
  Job job = {.count = count, .tables = tables, .sizes = sizes, .rate = rate, .beta1 = beta1, .beta2 = beta2,
             .eps = eps, .decay = decay, .factor = factor};
  share(&job, step, threads);
}
