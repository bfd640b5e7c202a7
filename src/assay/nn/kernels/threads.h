/* Whether a kernel was built with threads, and which of them this is. Pasted into a source (`native.py`). */
#ifdef _OPENMP
#include <omp.h>
#endif

int openmp(void) {
#ifdef _OPENMP
  return 1;
#else
  return 0;
#endif
}

static inline int thread(void) {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}
