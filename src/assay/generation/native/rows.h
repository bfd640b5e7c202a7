/* What is done to each row by itself: its token's embedding, its positions, norms, sums. */

/* dst = a table[token]. */
static void embed(const Program *p, const Op *op, int row) {
  const float *x = op->src + p->tokens[row] * op->n;
  float *y = op->dst[0] + (int64_t)row * op->n;
  for (int i = 0; i < op->n; i++) y[i] = x[i] * op->a;
}

/* dst += table[index[time]]. */
static void add_row(const Program *p, const Op *op, int row) {
  const float *x = op->src + op->index[op->step * (p->origin ? p->origin[row] : row) + p->time] * op->n;
  float *y = op->dst[0] + (int64_t)row * op->n;
  for (int i = 0; i < op->n; i++) y[i] += x[i];
}

/* dst = a src + b src2. */
static void sum(const Op *op, int row) {
  const int64_t at = (int64_t)row * op->n;
  const float *x = op->src + at, *add = op->src2 ? op->src2 + at : 0;
  float *y = op->dst[0] + at;
  if (add)
    for (int i = 0; i < op->n; i++) y[i] = op->a * x[i] + op->b * add[i];
  else
    for (int i = 0; i < op->n; i++) y[i] = op->a * x[i];
}

static float largest(const float *x, int n) {
  float most = 0;
#pragma omp simd reduction(max : most)
  for (int i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
  return most;
}

/* Norm of `size` groups of `n` features. a: eps, b: scale after, c: divide by max/c first, d: DyT's alpha. */
static void norm(const Op *op, int row) {
  const int n = op->n;
  const int64_t at = (int64_t)row * op->size * n;
  const float shrink = op->c > 0 ? op->c / largest(op->src + at, op->size * n) : 1.0f, *w = op->w[0], *bias = op->bias[0];
  for (int g = 0; g < op->size; g++) {
    const float *x = op->src + at + (int64_t)g * n;
    float *y = op->dst[0] + at + (int64_t)g * n, mean = 0, square = 0, factor = 1;
    if (op->mode == LAYERNORM) {
      float total = 0;
#pragma omp simd reduction(+ : total)
      for (int i = 0; i < n; i++) total += x[i] * shrink;
      mean = total / n;
#pragma omp simd reduction(+ : square)
      for (int i = 0; i < n; i++) {
        float v = x[i] * shrink - mean;
        square += v * v;
      }
      factor = 1.0f / sqrtf(square / n + op->a);
    } else if (op->mode == RMSNORM) {
#pragma omp simd reduction(+ : square)
      for (int i = 0; i < op->flag; i++) {
        float v = x[i] * shrink;
        square += v * v;
      }
      factor = 1.0f / sqrtf(square / op->flag + op->a);
    }
    for (int i = 0; i < n; i += LANES) {
      const int count = n - i;
      V v = take(x + i, count) * shrink;
      if (op->mode == DYT) v = tanh_of(op->d * v);
      else v = (v - mean) * factor;
      if (w) v *= take(w + i, count);
      if (bias) v += take(bias + i, count);
      put(y + i, v * op->b, count);
    }
  }
}
