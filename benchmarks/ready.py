"""What most parts need in memory, imported once: every part is forked from a process that has it (`__main__.part`).

Importing takes seven seconds on a quick core, in every part. How long it takes is measured elsewhere
(`start`, `study`), in processes that begin from nothing.
"""

from __future__ import annotations

import contextlib

import torch._dynamo
import torch._inductor.compile_fx
from transformers import LlamaForCausalLM, T5ForConditionalGeneration

import assay.generation.build
import assay.published.load
import assay.training.loop

for name in ("litgpt.model", "x_transformers"):
    with contextlib.suppress(ImportError):  # a peer that is not installed is told of where it is wanted
        __import__(name)

__all__ = ["LlamaForCausalLM", "T5ForConditionalGeneration", "assay", "torch"]
