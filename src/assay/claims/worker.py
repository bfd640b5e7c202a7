"""Measures one claim in a process of its own: `python -m assay.claims.worker KEY TIER FOLDER`."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback

from assay.claims.base import Tier
from assay.claims.catalogue import claim as find
from assay.claims.lab import Lab
from assay.claims.page import failed_page, finished_page, save_page
from assay.errors import UserError
from assay.runs import StudyFolder

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Measure, decide, write the page; 0, or 2 where it failed (the page says why)."""
    key, name, path = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, who ends this process
    claim, tier, folder = find(key), Tier(name), StudyFolder(path)
    began = time.perf_counter()
    try:
        import torch

        torch.set_num_threads(1)
        experiments = claim.runs(tier) if claim.runs is not None else {}
        measured = claim.measure(Lab(key, tier, folder, experiments))
        page = finished_page(claim, tier, experiments, folder, measured, time.perf_counter() - began)
    except UserError as error:
        save_page(folder, failed_page(claim, tier, str(error)))
        print(error, file=sys.stderr)
        return 2
    except Exception as error:
        save_page(folder, failed_page(claim, tier, f"{type(error).__name__}: {error}"))
        traceback.print_exc()
        return 2
    save_page(folder, page)
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
