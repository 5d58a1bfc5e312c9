"""Starts worker processes quickly: torch is imported once, here, and each worker is a fork of that.

Reads one JSON line for each worker from standard input, and answers with its process id.
"""

import json
import os
import signal
import sys
from typing import Any

import torch

from img2img_worker.farm.cli import main
from img2img_worker.farm.worker import run  # noqa: F401  # imported here, so that no worker must
from tests.faults import sabotage


def serve() -> None:
    """Fork until standard input ends."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for them
    sys.stdout.write("ready\n")
    for line in sys.stdin:
        wanted = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(wanted)
        sys.stdout.write(f"{child}\n")


def _become(wanted: dict[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(wanted["environment"])
    if wanted["arm"]:
        sabotage.arm(**wanted["arm"])
    if wanted["clock"]:
        sabotage.shift_clock(wanted["clock"])
    if wanted["poison"]:
        sabotage.poison(wanted["poison"])
    sys.argv = ["img2img-worker", *wanted["arguments"]]
    try:
        main()
    except SystemExit as end:
        os._exit(int(end.code or 0))
    os._exit(70)


if __name__ == "__main__":
    serve()
