"""Public checkpoints in and out: one file per family, a table of names and a config mapping both ways.

`load.load` and `load.build` give Models, `describe.spec_of` reads a description without weights (and without
torch), `save` writes. Families are listed in `registry.py`; `base.py` says what a family is made of.
"""
