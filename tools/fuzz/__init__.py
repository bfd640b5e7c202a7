"""Broken and hostile files for every reader that users call.

    python -m tools.fuzz --target gguf --count 10000 --seed 0

An input is a folder of small files: a valid one, changed by structure or blindly (`mutate.py`, `containers.py`).
Each is read in a forked child (`harness.py`) that is watched for everything but success and a clear `UserError`:
other exceptions, crashes, hangs, memory, code that a file had executed, files outside of its folder. What fails is
made smaller (`shrink.py`) and kept. Input n of a target is the same for everyone who gives the same seed.
"""
