"""Several runs of one model in one process, their steps computed as one batched model's.

Where a model is tiny, a step is calls more than arithmetic, and a batch of models makes a call for all of them. What
rows do not share (weights) is stacked on a first axis; everything else of the model takes the members' rows as more
rows of one batch. Each member stays a whole run: its data, rates, clipping, checkpoints and folder are its own.
"""
