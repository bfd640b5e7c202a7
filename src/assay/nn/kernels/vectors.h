/* What the kernels share: a register of floats at a time, their sums and maxima, and e^x. Pasted into a source before it
 * is compiled (`native.py`). */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
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
  const V kept = pick(x < low, low, x);
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
