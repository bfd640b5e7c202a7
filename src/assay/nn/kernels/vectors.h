/* What the kernels share: a register of floats at a time, their sums and maxima, and e^x. Pasted into a source before it
 * is compiled (`native.py`). */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX__)
#include <immintrin.h>
#endif
#include "threads.h"

/* As many floats as fill a register: compilers keep wider vectors in memory, where all is several times slower.
 * -DLANES=n for tests of what other processors compute. */
#if defined(LANES)
#elif defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
typedef float V __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t I __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define INLINE static inline __attribute__((always_inline))
#define UP(n) (((n) + LANES - 1) / LANES * LANES)

INLINE V load(const float *p) { return *(const V *)p; }
INLINE void store(float *p, V v) { *(V *)p = v; }
INLINE V all(float x) { return (V){0} + x; }
INLINE V pick(I yes, V a, V b) { return (V)((yes & (I)a) | (~yes & (I)b)); }

/* Lane by lane; where either is NaN, b. */
INLINE V larger(V a, V b) {
#if LANES == 16 && defined(__AVX512F__)
  return (V)_mm512_max_ps((__m512)a, (__m512)b);
#elif LANES == 8 && defined(__AVX__)
  return (V)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return pick(a > b, a, b);
#endif
}

#if defined(__clang__) || __GNUC__ >= 12
#define MIX __builtin_shufflevector
#else
#define MIX(x, y, ...) __builtin_shuffle(x, y, (I){__VA_ARGS__})
#endif

typedef float V8 __attribute__((vector_size(32)));
typedef float V4 __attribute__((vector_size(16)));

/* Four sums of what lies four apart, in halves: the parts do not wait for each other. */
INLINE V4 folded(V v) {
  V4 q[LANES / 4];
#if LANES == 16
  V8 h[2];
  memcpy(h, &v, sizeof v);
  h[0] += h[1];
  memcpy(q, h, sizeof h[0]);
#else
  memcpy(q, &v, sizeof v);
#endif
#if LANES > 4
  q[0] += q[1];
#endif
  return q[0];
}

INLINE float sum_of(V v) {
  const V4 q = folded(v);
  return (q[0] + q[2]) + (q[1] + q[3]);
}

/* A register's lanes and another's by turns: those of the first halves, those of the second. */
#if LANES == 16
#define FIRST(a, b) MIX(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define SECOND(a, b) MIX(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif LANES == 8
#define FIRST(a, b) MIX(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define SECOND(a, b) MIX(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define FIRST(a, b) MIX(a, b, 0, 4, 1, 5)
#define SECOND(a, b) MIX(a, b, 2, 6, 3, 7)
#endif

INLINE void interleave(const V *x, V *y) {
#pragma GCC unroll 8
  for (int r = 0; r < LANES / 2; r++) {
    y[2 * r] = FIRST(x[r], x[r + LANES / 2]);
    y[2 * r + 1] = SECOND(x[r], x[r + LANES / 2]);
  }
}

/* LANES rows become columns. Interleaving first half and second turns an element's index by a bit; log2 of LANES times
 * is all of it. Without a loop, since compilers would keep the registers in memory. */
INLINE void transpose(V *x) {
  V y[LANES];
  interleave(x, y);
  interleave(y, x);
#if LANES == 8
  interleave(x, y);
  memcpy(x, y, sizeof y);
#elif LANES == 16
  interleave(x, y);
  interleave(y, x);
#endif
}

INLINE float most_of(V v) {
  float m[LANES];
  memcpy(m, &v, sizeof v);
  for (int step = LANES / 2; step; step /= 2)
    for (int i = 0; i < step; i++) m[i] = m[i + step] > m[i] ? m[i + step] : m[i];
  return m[0];
}

/* e^x for x <= 88, exactly 0 below -87 (and for -inf); error under 2 units in the last place; NaN stays NaN. */
INLINE V exponential(V x) {
  const V low = all(-87.0f);
  const V kept = larger(low, x);
  const V shifted = kept * 1.44269504f + 12582912.0f; /* rounds to an integer in the low bits */
  const I n = (I)shifted - 0x4b400000;
  const V whole = shifted - 12582912.0f;
  const V r = kept - whole * 0.693359375f - whole * -2.12194440e-4f;
  V p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return pick(x < low, all(0), (V)((I)p + (n << 23)));
}

/* ln x for normal x > 0; error under 2 units in the last place. */
INLINE V logarithm(V x) {
  const I n = ((I)x - 0x3f3504f3) >> 23; /* x = 2^n (1 + r), 1 + r between the roots of a half and of two */
  const V r = (V)((I)x - (n << 23)) - 1.0f, whole = __builtin_convertvector(n, V), square = r * r;
  V p = all(7.0376836292e-2f);
  p = p * r - 1.1514610310e-1f;
  p = p * r + 1.1676998740e-1f;
  p = p * r - 1.2420140846e-1f;
  p = p * r + 1.4249322787e-1f;
  p = p * r - 1.6668057665e-1f;
  p = p * r + 2.0000714765e-1f;
  p = p * r - 2.4999993993e-1f;
  p = p * r + 3.3333331174e-1f;
  return p * r * square + whole * -2.12194440e-4f - 0.5f * square + r + whole * 0.693359375f;
}
