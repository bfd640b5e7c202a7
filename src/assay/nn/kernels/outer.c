/* out = a^T b of two matrices whose rows are tokens: the gradient of a linear map's weights.
 *
 * ROWS columns of a by WIDE columns of b are a `tile` of the result. Every token brings it a line of b and a few neighbours
 * of a, which lie in order as they are: nothing is transposed. DEEP tokens of BROAD columns of b are packed at a time, for
 * the second cache, and of ROWS columns of a, for the first.
 */
#include "tile.h"

#define DEEP 512
#define BROAD 384

/* What a thread packs into; kept, since asking for it takes longer than a small product. */
static __thread float *packed;

/* The matrices' sizes and distances between rows, in elements. */
typedef struct {
  const float *a, *b;
  float *out;
  int64_t a_row, b_row, tokens, rows, columns;
} Product;

/* `have` columns of some tokens, one token behind the other and `wide` apart; zeros for those that are not there. */
INLINE void pack(const float *from, int64_t stride, int64_t tokens, int64_t have, const int64_t wide, float *to) {
  for (int64_t k = 0; k < tokens; k++, from += stride, to += wide) {
    if (have == wide) memcpy(to, from, wide * sizeof(float));
    else
      for (int64_t i = 0; i < wide; i++) to[i] = i < have ? from[i] : 0;
  }
}

/* A tile of the result, over a block of tokens; what is there from those before is added to. */
static void corner(const float *a, const float *b, int64_t tokens, float *out, int64_t stride, int64_t rows,
                   int64_t columns, int add) {
  enum { first = 0, last = 2 };
  V sums[ROWS][2] = {{{0}}};
  if (add)
    for (int64_t r = 0; r < rows; r++) {
      __builtin_prefetch(out + r * stride, 1);
      __builtin_prefetch(out + r * stride + columns - 1, 1);
    }
  tile(a, 1, ROWS, b, WIDE, tokens, first, last, sums);
  if (rows == ROWS && columns == WIDE) {
    EACH_ROW EACH_PART {
      float *to = out + r * stride + i * LANES;
      if (add) sums[r][i] += load(to);
      store(to, sums[r][i]);
    }
    return;
  }
  float all_of_it[ROWS * WIDE];
  EACH_ROW EACH_PART store(all_of_it + r * WIDE + i * LANES, sums[r][i]);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < columns; c++)
      out[r * stride + c] = (add ? out[r * stride + c] : 0) + all_of_it[r * WIDE + c];
}

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Rows `top` to `bottom` of the result, columns `left` to `right`. */
static void part(const Product *n, int64_t top, int64_t bottom, int64_t left, int64_t right, float *panels) {
  float *narrow = panels + DEEP * BROAD;
  for (int64_t from = 0; from < n->tokens; from += DEEP) {
    const int64_t tokens = least(n->tokens - from, DEEP);
    for (int64_t block = left; block < right; block += BROAD) {
      const int64_t end = least(block + BROAD, right);
      for (int64_t c = block; c < end; c += WIDE)
        pack(n->b + from * n->b_row + c, n->b_row, tokens, least(end - c, WIDE), WIDE, panels + (c - block) * DEEP);
      for (int64_t r = top; r < bottom; r += ROWS) {
        const int64_t rows = least(bottom - r, ROWS);
        pack(n->a + from * n->a_row + r, n->a_row, tokens, rows, ROWS, narrow);
        for (int64_t c = block; c < end; c += WIDE)
          corner(narrow, panels + (c - block) * DEEP, tokens, n->out + r * n->columns + c, n->columns, rows,
                 least(end - c, WIDE), from > 0);
      }
    }
  }
}

/* out [rows, columns] = a [tokens, rows]^T b [tokens, columns]; threads share the longer side. Returns 0, or 1 where memory
 * ran out. */
int outer(const float *a, int64_t a_row, const float *b, int64_t b_row, int64_t tokens, int64_t rows, int64_t columns,
          float *out, int threads) {
  const Product n = {a, b, out, a_row, b_row, tokens, rows, columns};
  const int tall = rows >= columns;
  const int64_t side = tall ? rows : columns, unit = tall ? ROWS : WIDE;
  const int64_t each = ((side + threads - 1) / threads + unit - 1) / unit * unit;
  int failed = 0;
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
  for (int64_t from = 0; from < side; from += each) {
    if (!packed && posix_memalign((void **)&packed, 64, DEEP * (BROAD + ROWS) * sizeof(float))) {
      packed = NULL;
      failed = 1;
      continue;
    }
    const int64_t to = least(from + each, side);
    if (tall) part(&n, from, to, 0, columns, packed);
    else part(&n, 0, rows, from, to, packed);
  }
  return failed;
}
