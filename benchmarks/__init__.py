"""Side-by-side measurements: assay, its peers, and the machine's own limit. `python -m benchmarks --help`."""
