/* -log softmax at one target a row, and the gradient written over the logits, while the row is in the nearest caches.
 *
 *     Z = sum_j e^(l_j),   nats = log Z - l_t + z log^2 Z
 *     d/dl = w ((1 + 2 z log Z) e^l / Z - onehot(t))
 *
 * In torch's operators that is eight passes through all logits, and a copy of them.
 */
#include "vectors.h"

#define BLOCK 1024 /* terms summed in float before they go to a double: long rows stay exact */

/* Up to a register of logits; what is missing is -inf, whose exponential is 0. */
INLINE V some(const float *p, int64_t count) {
  V v = all(-INFINITY);
  memcpy(&v, p, count * sizeof(float));
  return v;
}

INLINE float most_in(const float *l, int64_t n) {
  const int64_t whole = n & ~(int64_t)(LANES - 1), pairs = n & ~(int64_t)(2 * LANES - 1);
  V most = some(l + whole, n - whole), other = all(-INFINITY);
  for (int64_t j = 0; j < pairs; j += 2 * LANES) {
    const V x = load(l + j), y = load(l + j + LANES);
    most = larger(x, most);
    other = larger(y, other);
  }
  if (pairs < whole) { const V x = load(l + pairs); other = larger(x, other); }
  return most_of(larger(other, most));
}

/* sum of e^(l - top); the terms are kept over the logits where `keep`. */
INLINE double sum_in(float *l, int64_t n, float top, const int keep) {
  const int64_t whole = n & ~(int64_t)(LANES - 1);
  double total = 0;
  for (int64_t j = 0; j < whole;) {
    const int64_t end = j + BLOCK < whole ? j + BLOCK : whole;
    V sum = {0};
    for (; j < end; j += LANES) {
      const V e = exponential(load(l + j) - top);
      sum += e;
      if (keep) store(l + j, e);
    }
    total += sum_of(sum);
  }
  if (whole < n) {
    const V e = exponential(some(l + whole, n - whole) - top);
    total += sum_of(e);
    if (keep) memcpy(l + whole, &e, (n - whole) * sizeof(float));
  }
  return total;
}

/* nats [rows]; logits [rows, n] become their gradient where weight [rows] is given. Returns 0, or 1 where a target is
 * none of the n (its row is left as it is). */
int cross_entropy(float *logits, const int64_t *targets, const float *weight, float *nats, int64_t rows, int64_t n,
                  float z_loss, int threads) {
  int wrong = 0;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1) reduction(| : wrong)
  for (int64_t r = 0; r < rows; r++) {
    float *l = logits + r * n;
    const int64_t t = targets[r];
    if (t < 0 || t >= n) { wrong |= 1; continue; }
    const float most = most_in(l, n), top = most == -INFINITY ? 0 : most, at = l[t];
    const double total = weight ? sum_in(l, n, top, 1) : sum_in(l, n, top, 0), log_total = log(total);
    const double log_z = top + log_total;
    nats[r] = (top - at) + log_total + z_loss * log_z * log_z;
    if (!weight) continue;
    const float share = weight[r] * (1 + 2 * z_loss * log_z) / total;
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) store(l + j, load(l + j) * share);
    for (; j < n; j++) l[j] *= share;
    l[t] -= weight[r];
  }
  return wrong;
}
