"""One run on several processes (ranks): who they are, what each holds, how they agree, what they write.

`layout` says who holds what, `world` is how ranks talk, `team` is a model spread over them, `checkpoint` writes and
reads what they hold as one file, `heldout` measures together, `stopping` ends together.
"""
