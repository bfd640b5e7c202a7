/* Rotation of the features of every head by its position's angles, and its adjoint, one pass through memory.
 *
 *     first' = first cos - second sin,   second' = second cos + first sin          for every pair of features
 *
 * Products and sums are rounded one by one (no fused multiply-add), so that results equal torch's operators' bit for bit.
 */
#include "vectors.h"

/* One head at one position: `pairs` pairs, `step` apart, the second of each `apart` after the first. */
INLINE void turn(const float *x, const float *cos, const float *sin, float *out, int64_t pairs, const int64_t step,
                 int64_t apart, const int back) {
  int64_t i = 0;
  if (step == 1)
    for (; i + LANES <= pairs; i += LANES) {
      const int64_t a = i, b = a + apart;
      const V first = load(x + a), second = load(x + b), s = load(sin + a), t = load(sin + b);
      store(out + a, first * load(cos + a) + second * (back ? t : -s));
      store(out + b, second * load(cos + b) + first * (back ? -s : t));
    }
  for (; i < pairs; i++) {
    const int64_t a = i * step, b = a + apart;
    const float first = x[a], second = x[b], s = sin[a], t = sin[b];
    out[a] = first * cos[a] + second * (back ? t : -s);
    out[b] = second * cos[b] + first * (back ? -s : t);
  }
}

/* x [batch, heads, rows, width] by its strides (of batch, head, row; features side by side), out [batch, rows, heads,
 * width]; cos and sin [1 or batch, rows, rotated], `table` apart from batch to batch.
 * axes: parts of the features that pair up each within itself, halves against halves; 0: neighbours are pairs. */
void rotate(const float *x, const float *cos, const float *sin, float *out, int64_t batch, int64_t heads, int64_t rows,
            int64_t width, int64_t rotated, int64_t x_batch, int64_t x_head, int64_t x_row, int64_t table, int64_t axes,
            int back, int threads) {
  const int64_t part = axes ? rotated / axes : rotated, pairs = part / 2;
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t b = 0; b < batch; b++)
    for (int64_t row = 0; row < rows; row++)
      for (int64_t h = 0; h < heads; h++) {
        const float *from = x + b * x_batch + h * x_head + row * x_row;
        float *to = out + ((b * rows + row) * heads + h) * width;
        for (int64_t c = 0; c < rotated; c += part) {
          const float *u = cos + b * table + row * rotated + c, *v = sin + b * table + row * rotated + c;
#define TURN(STEP, APART, BACK) turn(from + c, u, v, to + c, pairs, STEP, APART, BACK)
          if (axes) { if (back) TURN(1, pairs, 1); else TURN(1, pairs, 0); }
          else { if (back) TURN(2, 1, 1); else TURN(2, 1, 0); }
#undef TURN
        }
        if (rotated < width) memcpy(to + rotated, from + rotated, (width - rotated) * sizeof(float));
      }
}
