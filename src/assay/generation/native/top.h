/* The largest of each row of logits. torch's argmax and topk look at one element at a time. */

/* values, places: [rows][k], largest first; of equals the first one first. NaN is passed over where k others are there. */
void top_of_rows(const float *x, int64_t rows, int64_t n, int k, float *values, int64_t *places) {
  for (int64_t r = 0; r < rows; r++, x += n, values += k, places += k) {
    int held = 0;
    for (int64_t from = 0; from < n; from += LANES) {
      const int64_t count = n - from < LANES ? n - from : LANES;
      if (held == k && count == LANES) {
        const I above = load(x + from) > all(values[k - 1]);
        int64_t any = 0, word[LANES / 2];
        memcpy(word, &above, sizeof above);
        for (int i = 0; i < LANES / 2; i++) any |= word[i];
        if (!any) continue;
      }
      for (int64_t i = from; i < from + count; i++) {
        if (held == k && !(x[i] > values[k - 1])) continue;
        int at = held < k ? held++ : k - 1;
        for (; at && x[i] > values[at - 1]; at--) values[at] = values[at - 1], places[at] = places[at - 1];
        values[at] = x[i], places[at] = i;
      }
    }
  }
}
