"""What a study and its workers agree on: the file that describes a run, and how a worker's exit tells its end."""

REQUEST = "request.json"
"""In the run's folder: "run" (a RunSpec's fields) and "command" (what does the study again)."""

DONE, FAILED, DIVERGED, STOPPED = 0, 2, 3, 130
"""Exit statuses of a worker."""

LOST = 1000
"""In place of an exit status, which is below 256: nobody saw the worker's end. What it was started by, or the machine
that it was on, is gone."""

MODULES = ("assay.studies.worker", "assay.training.loop", "torch._dynamo")
"""What every worker needs, imported once before any is forked. torch imports the last by itself at an optimizer's first
step, which takes 2 s: more than many a run."""
