/* silu(g) u and its gradients, one pass through memory each.
 *
 *     s = 1 / (1 + e^-g),   y = g s u,   dg = dy u s (1 + g (1 - s)),   du = dy g s
 */
#include "vectors.h"

INLINE V sigmoid(V x) {
  const V e = exponential(pick(x > all(0), -x, x)); /* of -|x|, which cannot overflow */
  return pick(x > all(0), all(1), e) / (1 + e);
}

INLINE V some(const float *p, int64_t count) {
  V v = {0};
  memcpy(&v, p, count * sizeof(float));
  return v;
}

INLINE void forward_some(const float *g, const float *u, float *y, int64_t count, const int whole) {
  const V x = whole ? load(g) : some(g, count), out = x * sigmoid(x) * (whole ? load(u) : some(u, count));
  if (whole) store(y, out);
  else memcpy(y, &out, count * sizeof(float));
}

INLINE void backward_some(const float *g, const float *u, const float *dy, float *dg, float *du, int64_t count,
                          const int whole) {
  const V x = whole ? load(g) : some(g, count), up = whole ? load(u) : some(u, count);
  const V d = whole ? load(dy) : some(dy, count), s = sigmoid(x), ds = d * s;
  const V a = ds * up * (1 + x * (1 - s)), b = ds * x;
  if (whole) { store(dg, a); store(du, b); }
  else { memcpy(dg, &a, count * sizeof(float)); memcpy(du, &b, count * sizeof(float)); }
}

void gated_forward(const float *g, const float *u, float *y, int64_t n, int threads) {
  const int64_t whole = n & ~(int64_t)(LANES - 1);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t j = 0; j < whole; j += LANES) forward_some(g + j, u + j, y + j, LANES, 1);
  if (whole < n) forward_some(g + whole, u + whole, y + whole, n - whole, 0);
}

void gated_backward(const float *g, const float *u, const float *dy, float *dg, float *du, int64_t n, int threads) {
  const int64_t whole = n & ~(int64_t)(LANES - 1);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t j = 0; j < whole; j += LANES) backward_some(g + j, u + j, dy + j, dg + j, du + j, LANES, 1);
  if (whole < n) backward_some(g + whole, u + whole, dy + whole, dg + whole, du + whole, n - whole, 0);
}
