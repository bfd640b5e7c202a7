"""The optimizer, the schedules, the loop, checkpoints; `train` is the way in from Python."""
