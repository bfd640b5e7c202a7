"""What a study and its workers agree on: the file that describes a run, and how a worker's exit tells its end."""

REQUEST = "request.json"
"""In the run's folder: "run" (a RunSpec's fields) and "command" (what does the study again)."""

DONE, FAILED, DIVERGED, STOPPED = 0, 2, 3, 130
"""Exit statuses of a worker."""
