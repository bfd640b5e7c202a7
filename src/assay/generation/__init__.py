"""The `Model` that a user holds: forward, caches, sampling, search."""
