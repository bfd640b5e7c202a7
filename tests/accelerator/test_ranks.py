"""Two ranks over nccl. One accelerator is enough: each rank believes that it is alone on a machine of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MODEL = "width = 32\nlayers = 2\nattention = {heads = 2}\ndropout = 0.0\n"


def train(folder: Path, source: Path, out: str, ranks: int, *options: str) -> np.ndarray:
    """The losses of `assay train` on so many ranks, each under a launcher of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "assay", "train", "spec.toml", "--data", str(source), "--tokenizer", "bytes", "--out", out]
    command += ["--steps", "6", "--batch-size", "8", "--length", "32", "--dtype", "float32", *options]
    many = []
    for rank in range(ranks):
        launch = ["-m", "torch.distributed.run", "--nnodes", str(ranks), "--nproc-per-node", "1"]
        launch += ["--node-rank", str(rank), "--master-addr", "127.0.0.1", "--master-port", str(port)]
        # Two ranks on one device are refused unless they are on different machines, as far as nccl can tell.
        own = {"NCCL_HOSTID": f"machine {rank}", "NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo"}
        words = [sys.executable, *(launch if ranks > 1 else []), *command]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        many.append(subprocess.Popen(words, cwd=folder, env=os.environ | own, **pipes))
    said = [process.communicate(timeout=240)[0] for process in many]
    assert all(process.returncode == 0 for process in many), "\n".join(text[-3000:] for text in said)
    rows = [json.loads(line) for line in (folder / out / "metrics.jsonl").read_text().splitlines()]
    return np.array([row["loss"] for row in rows if row.get("kind") == "train"])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_two_ranks_over_nccl_are_one(tmp_path: Path, source: Path, device: str, how: str) -> None:
    (tmp_path / "spec.toml").write_text(MODEL)
    one = train(tmp_path, source, "one", 1)
    two = train(tmp_path, source, "two", 2, "--parallel", how)
    np.testing.assert_allclose(two, one, rtol=1e-4)
