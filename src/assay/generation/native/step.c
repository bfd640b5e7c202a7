/* One decoding step of up to 256 rows as a flat program: a list of operations over float32 buffers, run in order.
 *
 * Why: a step reads every weight once, so memory bandwidth bounds it as long as rows are few. Called one by one from
 * Python, the small operations between the matrices cost more than they compute, and library products reach about half
 * of the bandwidth on matrices a few hundred columns wide. `writer.py` writes the list from the model's modules.
 *
 * Threads claim chunks of an operation one at a time, and an operation is over when its chunks are: a thread that the
 * system has put aside before it claimed a chunk delays nobody. Who computes a chunk changes no bit of it.
 */
#include <pthread.h>
#include <sched.h>

#include "program.h"
#include "products.h"
#include "attention.h"
#include "rows.h"
#include "top.h"

#if defined(__x86_64__) || defined(__i386__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ __volatile__("yield")
#else
#define RELAX() ((void)0)
#endif

#define PARALLEL 32768 /* multiply-adds below which one thread is quicker alone */

typedef struct Worker {
  Program *program;
  int number;
  pthread_t thread;
} Worker;

/* Pieces of an operation that any thread may compute. */
static int chunks_of(const Program *p, const Op *op) {
  if (op->kind == ATTEND) return p->rows * op->heads / op->each;
  if (op->kind != LINEAR && op->kind != GATED) return p->rows;
  int total = 0;
  for (int s = 0; s < (op->kind == GATED ? 1 : 3); s++) total += (op->seg_rows[s] + op->each - 1) / op->each;
  return total;
}

/* Multiply-adds of an operation, or what takes as long. */
static int64_t work_of(const Program *p, const Op *op) {
  switch (op->kind) {
    case LINEAR: return (int64_t)(op->seg_rows[0] + op->seg_rows[1] + op->seg_rows[2]) * op->n * p->rows;
    case GATED: return 2 * (int64_t)op->seg_rows[0] * op->n * p->rows;
    case ATTEND: return 2 * (int64_t)op->heads * op->n * (op->flag ? op->size : p->time + 1) * p->rows;
    case NORM: return (int64_t)op->size * op->n * p->rows;
    default: return (int64_t)op->n * p->rows;
  }
}

static void chunk_of(const Program *p, const Op *op, int chunk, int thread) {
  switch (op->kind) {
    case EMBED: embed(p, op, chunk); return;
    case ADD_ROW: add_row(p, op, chunk); return;
    case NORM: norm(op, chunk); return;
    case LINEAR: linear(p, op, chunk); return;
    case GATED: gated(p, op, chunk); return;
    case ROTATE: rotate(p, op, chunk); return;
    case ATTEND: attend(p, op, chunk, thread); return;
    default: sum(op, chunk);
  }
}

static void work(Program *p, uint32_t sequence, int thread) {
  for (;;) {
    uint64_t claim = atomic_load_explicit(&p->claim, memory_order_acquire);
    if ((uint32_t)(claim >> 32) != sequence) return;
    int chunk = (int)(uint32_t)claim;
    Shared here = p->shared[sequence & 3];
    if (chunk >= here.chunks) return;
    if (!atomic_compare_exchange_weak(&p->claim, &claim, claim + 1)) continue;
    chunk_of(p, here.op, chunk, thread);
    atomic_fetch_add_explicit(&p->finished, 1, memory_order_release);
  }
}

static void *worker(void *argument) {
  const Worker *self = argument;
  Program *p = self->program;
  uint32_t seen = 0;
  int idle = 0;
  while (!atomic_load(&p->quit)) {
    uint32_t now = atomic_load_explicit(&p->sequence, memory_order_acquire);
    if (now != seen) {
      seen = now, idle = 0;
      work(p, now, self->number);
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
  work(p, sequence, 0);
  for (int spins = 1; (int)atomic_load_explicit(&p->finished, memory_order_acquire) < chunks; spins++) {
    if (spins % 512 == 0) sched_yield();
    RELAX();
  }
}

static void run(Program *p, const Op *op) {
  const int matrix = op->kind == LINEAR || op->kind == GATED, chunks = chunks_of(p, op);
  if (matrix && p->rows > BLOCKED) pack(op->src, op->n, p->rows, p->panel);
  if (op->kind == ATTEND && !op->flag) keep(p, op);
  if (p->threads > 1 && chunks > 1 && work_of(p, op) >= PARALLEL) share(p, op, chunks);
  else
    for (int chunk = 0; chunk < chunks; chunk++) chunk_of(p, op, chunk, 0);
}

int op_size(void) { return (int)sizeof(Op); }
int most_rows(void) { return MOST_ROWS; }

/* y = x W^T as the program computes it, for the check of a freshly compiled library. panel: [n][rows up to a multiple of 16]. */
void product_of(const float *w, const float *x, float *panel, int n, int rows, int count, float *y) {
  if (rows > BLOCKED) pack(x, n, rows, panel);
  product(w, x, panel, n, rows, count, y, count);
}

/* panel: [widest input of a product][rows up to a multiple of 16]; scores: [threads][longest]. */
Program *open_program(Op *ops, int count, int threads, int rows, int64_t longest, float *scores, float *panel) {
  Program *p = calloc(1, sizeof(Program));
  if (!p) return 0;
  p->ops = ops, p->count = count, p->threads = threads, p->rows = rows, p->longest = longest;
  p->scores = scores, p->panel = panel;
  for (int i = 0; i < count; i++)
    ops[i].each = ops[i].kind == LINEAR || ops[i].kind == GATED ? rows_a_chunk(&ops[i], threads)
                  : ops[i].kind == ATTEND                       ? heads_a_chunk(&ops[i], rows, threads)
                                                                : 1;
  pthread_mutex_init(&p->lock, 0);
  pthread_cond_init(&p->wake, 0);
  p->pool = calloc(threads, sizeof(Worker));
  if (!p->pool) p->threads = 1;
  for (int t = 1; t < p->threads; t++) {
    p->pool[t] = (Worker){.program = p, .number = t};
    if (pthread_create(&p->pool[t].thread, 0, worker, &p->pool[t])) {
      p->threads = t;
      break;
    }
  }
  return p;
}

/* From here on, rows read others' tables (origin) and keys (where); both stay where they are and may change. */
void reorder_program(Program *p, const int32_t *origin, const int32_t *where) { p->origin = origin, p->where = where; }

void step_program(Program *p, const int64_t *tokens, int64_t time) {
  p->tokens = tokens, p->time = time;
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
  for (int t = 1; t < p->threads; t++) pthread_join(p->pool[t].thread, 0);
  pthread_mutex_destroy(&p->lock);
  pthread_cond_destroy(&p->wake);
  free(p->pool);
  free(p);
}
