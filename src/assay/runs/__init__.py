"""The run folder: written atomically, read back after any kind of end, with the provenance of its numbers.

folder = RunFolder("out/runs/1a2b3c4d5e6f7788")
folder.write_json("run.json", {"seed": 0, **provenance()})
folder.append_metrics({"step": 1, "loss": 5.5})
folder.mark_done({"loss": 2.5})

StudyFolder.open("out").done()
"""

from assay.runs.checksums import verify_files
from assay.runs.files import content_hash, disk_guard, read_json, write_bytes, write_json, write_text
from assay.runs.folder import SCHEMA_VERSION, RunFolder
from assay.runs.provenance import command_line, git_commit, hardware, provenance, versions
from assay.runs.study import StudyFolder

__all__ = [
    "SCHEMA_VERSION",
    "RunFolder",
    "StudyFolder",
    "command_line",
    "content_hash",
    "disk_guard",
    "git_commit",
    "hardware",
    "provenance",
    "read_json",
    "verify_files",
    "versions",
    "write_bytes",
    "write_json",
    "write_text",
]
