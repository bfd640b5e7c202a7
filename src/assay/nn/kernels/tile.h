/* What products are made of: ROWS rows of numbers, each times the lines of a panel up to WIDE floats wide, all sums in
 * registers. Pasted into a source before it is compiled (`native.py`). */
#include "vectors.h"

#define WIDE (2 * LANES)
/* Twice as many sums fill half or two thirds of the registers, and hide a multiplication's latency. */
#if LANES == 16
#define ROWS 8
#elif LANES == 8
#define ROWS 6
#else
#define ROWS 4
#endif
#define EACH_ROW _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++)
#define EACH_LANE _Pragma("GCC unroll 16") for (int r = 0; r < LANES; r++)
#define EACH_PART _Pragma("GCC unroll 2") for (int i = first; i < last; i++)

/* sums[r] += sum over k < count of a[r * row + k * step] and the panel's k-th line, its registers `first` to `last` */
INLINE void tile(const float *a, int64_t row, int64_t step, const float *panel, int64_t line, int64_t count,
                 const int first, const int last, V sums[ROWS][2]) {
  for (int64_t k = 0; k < count; k++) {
    V x[2];
    EACH_PART x[i] = load(panel + k * line + i * LANES);
    EACH_ROW {
      const float y = a[r * row + k * step];
      EACH_PART sums[r][i] += x[i] * y;
    }
  }
}
