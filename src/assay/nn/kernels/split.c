/* c = a b^T in float32, by the processor's tiles of bfloat16 (AMX).
 *
 * A float32 has 24 significant bits, a bfloat16 has 8 and the same range: x = h + m + l exactly. Of the nine products
 * the six that matter are summed in float32 (h h, h m, m h, m m, h l, l h); what is left out lies under one rounding of
 * a float32 product. A tile instruction does 8192 multiply-adds in 16 cycles, where two vector units do 512.
 *
 * Operands are split and laid out in panels of 32 rows by steps of 32 of the summed index: six tiles of 1 KB, [part][half
 * of the rows]. A tile of `a` holds 16 rows of pairs (k, k + 16); one of `b` the same transposed, 16 pairs of columns.
 */
#include "vectors.h"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__linux__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SIDE = 32, TILE = 1024, STEP = 6 * TILE, HIGH = 8, DEEP = 16 };
/* Panels of `a`, and steps, that are laid out at a time: 0.8 MB, which a second-level cache holds. */

typedef struct { const float *data; int64_t row, k; /* strides; one of them is 1 */ int64_t rows, depth; } Matrix;

typedef struct { __m512i h, m, l; } Parts;

/* Rounded to the nearest 8 bits; the rest is exact. A NaN is one in the last part, an infinity becomes a NaN. */
INLINE Parts parts(__m512 x) {
  const __m512i half = _mm512_set1_epi32(0x8000), kept = _mm512_set1_epi32((int)0xffff0000u);
  Parts p;
  p.h = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), kept);
  const __m512 r = _mm512_sub_ps(x, _mm512_castsi512_ps(p.h));
  p.m = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(r), half), kept);
  p.l = _mm512_castps_si512(_mm512_sub_ps(r, _mm512_castsi512_ps(p.m)));
  return p;
}

INLINE __m512i pair(__m512i first, __m512i second) {
  return _mm512_mask_mov_epi16(_mm512_srli_epi32(first, 16), 0xaaaaaaaau, second);
}

/* Sixteen rows of a tile for each part, from numbers k and k + 16 of it. */
INLINE void put(char *to, int line, __m512 first, __m512 second, int64_t apart) {
  const Parts a = parts(first), b = parts(second);
  _mm512_store_si512(to + 64 * line, pair(a.h, b.h));
  _mm512_store_si512(to + 64 * line + apart, pair(a.m, b.m));
  _mm512_store_si512(to + 64 * line + 2 * apart, pair(a.l, b.l));
}

static void transpose(const char *from, char *to) {
  __m512i r[16], s[16];
  for (int i = 0; i < 16; i += 2) {
    const __m512i x = _mm512_load_si512(from + 64 * i), y = _mm512_load_si512(from + 64 * i + 64);
    r[i] = _mm512_unpacklo_epi32(x, y);
    r[i + 1] = _mm512_unpackhi_epi32(x, y);
  }
  for (int i = 0; i < 16; i += 4) {
    s[i] = _mm512_unpacklo_epi64(r[i], r[i + 2]);
    s[i + 1] = _mm512_unpackhi_epi64(r[i], r[i + 2]);
    s[i + 2] = _mm512_unpacklo_epi64(r[i + 1], r[i + 3]);
    s[i + 3] = _mm512_unpackhi_epi64(r[i + 1], r[i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    const __m512i a = _mm512_shuffle_i32x4(s[i], s[4 + i], 0x88), b = _mm512_shuffle_i32x4(s[i], s[4 + i], 0xdd);
    const __m512i c = _mm512_shuffle_i32x4(s[8 + i], s[12 + i], 0x88), d = _mm512_shuffle_i32x4(s[8 + i], s[12 + i], 0xdd);
    _mm512_store_si512(to + 64 * i, _mm512_shuffle_i32x4(a, c, 0x88));
    _mm512_store_si512(to + 64 * (4 + i), _mm512_shuffle_i32x4(b, d, 0x88));
    _mm512_store_si512(to + 64 * (8 + i), _mm512_shuffle_i32x4(a, c, 0xdd));
    _mm512_store_si512(to + 64 * (12 + i), _mm512_shuffle_i32x4(b, d, 0xdd));
  }
}

INLINE int thread(void) {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

INLINE __mmask16 first(int64_t count) { return count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1; }

/* Lay out one panel: rows from `row`, steps [from, to), at out + step * STEP. turned: as columns, for `b`. */
static void lay_out(const Matrix *x, int64_t row, int64_t from, int64_t to, char *out, int turned) {
  char other[3 * TILE] __attribute__((aligned(64)));
  const int along = x->k == 1; /* the tile comes as rows of the matrix, else as columns */
  for (int64_t step = from; step < to; step++, out += STEP) {
    const int64_t k = step * SIDE, deep = x->depth - k;
    for (int part = 0; part < 2; part++) {
      const int64_t top = row + 16 * part, rows = x->rows - top;
      const int direct = along != turned;
      char *to_tile = direct ? out + TILE * part : other;
      const int64_t apart = direct ? 2 * TILE : TILE;
      for (int line = 0; line < 16; line++) {
        __m512 a, b;
        if (along) {
          const float *p = x->data + (top + line) * x->row + k;
          const int64_t count = line < rows ? deep : 0;
          a = _mm512_maskz_loadu_ps(first(count), p);
          b = _mm512_maskz_loadu_ps(first(count - 16), p + 16);
        } else {
          const float *p = x->data + (k + line) * x->k + top;
          a = _mm512_maskz_loadu_ps(first(line < deep ? rows : 0), p);
          b = _mm512_maskz_loadu_ps(first(line + 16 < deep ? rows : 0), p + 16 * x->k);
        }
        put(to_tile, line, a, b, apart);
      }
      if (!direct)
        for (int i = 0; i < 3; i++) transpose(other + i * TILE, out + (2 * i + part) * TILE);
    }
  }
}

#define FOUR                                                                                                           \
  _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7);
#define LEFT(part) _tile_loadd(4, a + 2 * (part) * TILE, 64); _tile_loadd(5, a + (2 * (part) + 1) * TILE, 64);
#define RIGHT(part) _tile_loadd(6, b + 2 * (part) * TILE, 64); _tile_loadd(7, b + (2 * (part) + 1) * TILE, 64);

/* 32 x 32 of c, of which rows x columns are there; summed to what is there where `more`. */
static void block(const char *a, const char *b, int64_t steps, float *c, int64_t stride, int64_t rows, int64_t columns,
                  int more) {
  float edge[SIDE * SIDE] __attribute__((aligned(64)));
  const int whole = rows >= SIDE && columns >= SIDE;
  float *at = whole ? c : edge;
  const int64_t wide = whole ? stride : SIDE;
  if (more && !whole)
    for (int64_t i = 0; i < rows && i < SIDE; i++)
      for (int64_t j = 0; j < columns && j < SIDE; j++) edge[i * SIDE + j] = c[i * stride + j];
  if (more) {
    _tile_loadd(0, at, 4 * wide); _tile_loadd(1, at + 16, 4 * wide);
    _tile_loadd(2, at + 16 * wide, 4 * wide); _tile_loadd(3, at + 16 * wide + 16, 4 * wide);
  } else {
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
  }
  for (int64_t step = 0; step < steps; step++, a += STEP, b += STEP) {
    LEFT(0) RIGHT(0) FOUR
    RIGHT(1) FOUR
    RIGHT(2) FOUR
    LEFT(1) RIGHT(1) FOUR
    RIGHT(0) FOUR
    LEFT(2) FOUR
  }
  _tile_stored(0, at, 4 * wide); _tile_stored(1, at + 16, 4 * wide);
  _tile_stored(2, at + 16 * wide, 4 * wide); _tile_stored(3, at + 16 * wide + 16, 4 * wide);
  if (!whole)
    for (int64_t i = 0; i < rows && i < SIDE; i++)
      for (int64_t j = 0; j < columns && j < SIDE; j++) c[i * stride + j] = edge[i * SIDE + j];
}

static void configure(void) {
  struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } tiles = {.palette = 1};
  for (int i = 0; i < 8; i++) { tiles.bytes[i] = 64; tiles.rows[i] = 16; }
  _tile_loadconfig(&tiles);
}

/* Ask the system for the tiles' registers, once a process. */
int split_available(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

/* c [m][n] = a b^T, or += where `add`; 1: no memory, nothing was done.
 *
 * `a` is laid out a block at a time, shared by all threads, which share the panels of `b` among them. These are laid out
 * once for all blocks; where there is one block alone, when their turn comes, so that they are never written to memory.
 */
int split_product(const float *a, int64_t a_row, int64_t a_k, const float *b, int64_t b_row, int64_t b_k, float *c,
                  int64_t m, int64_t n, int64_t k, int add, int threads) {
  const Matrix left = {a, a_row, a_k, m, k}, right = {b, b_row, b_k, n, k};
  const int64_t steps = (k + SIDE - 1) / SIDE, tall = (m + SIDE - 1) / SIDE, broad = (n + SIDE - 1) / SIDE;
  const int once = tall <= HIGH;
  const int64_t held = once ? (int64_t)threads * DEEP : broad * steps;
  char *columns = aligned_alloc(64, held * STEP), *rows = aligned_alloc(64, (int64_t)HIGH * DEEP * STEP);
  if (!columns || !rows) { free(columns); free(rows); return 1; }
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    configure();
    char *own = columns + (int64_t)thread() * DEEP * STEP;
    if (!once) {
#pragma omp for schedule(static)
      for (int64_t j = 0; j < broad; j++) lay_out(&right, j * SIDE, 0, steps, columns + j * steps * STEP, 1);
    }
    for (int64_t top = 0; top < tall; top += HIGH)
      for (int64_t from = 0; from < steps; from += DEEP) {
        const int64_t end = top + HIGH < tall ? top + HIGH : tall, to = from + DEEP < steps ? from + DEEP : steps;
#pragma omp for schedule(static)
        for (int64_t i = top; i < end; i++)
          lay_out(&left, i * SIDE, from, to, rows + (i - top) * DEEP * STEP, 0);
#pragma omp for schedule(static)
        for (int64_t j = 0; j < broad; j++) {
          const char *panel = once ? own : columns + (j * steps + from) * STEP;
          if (once) lay_out(&right, j * SIDE, from, to, own, 1);
          for (int64_t i = top; i < end; i++)
            block(rows + (i - top) * DEEP * STEP, panel, to - from, c + i * SIDE * n + j * SIDE, n, m - i * SIDE,
                  n - j * SIDE, add || from > 0);
        }
      }
    _tile_release();
  }
  free(columns);
  free(rows);
  return 0;
}
#else
int split_available(void) { return 0; }
int split_product(const float *a, int64_t a_row, int64_t a_k, const float *b, int64_t b_row, int64_t b_k, float *c,
                  int64_t m, int64_t n, int64_t k, int add, int threads) { return 1; }
#endif
