"""Starts worker processes quickly: torch is imported once, here, and each worker is a fork of that.

Reads a JSON line for each worker from standard input, and answers with its process id; a line with the id
of one that has ended is answered with its exit status, as subprocess counts them.
"""

import json
import os
import sys
from typing import Any

import torch

from img2img_worker.farm.cli import main
from img2img_worker.farm.worker import run  # noqa: F401  # imported here, so that no worker must
from tests.faults import sabotage


def serve() -> None:
    """Fork until standard input ends."""
    torch.set_num_threads(1)
    sys.stdout.write("ready\n")
    for line in sys.stdin:
        wanted = json.loads(line)
        if isinstance(wanted, int):
            status = os.waitstatus_to_exitcode(os.waitpid(wanted, 0)[1])
            sys.stdout.write(f"{status}\n")
            continue
        child = os.fork()
        if child == 0:
            _become(wanted)
        sys.stdout.write(f"{child}\n")


def _become(wanted: dict[str, Any]) -> None:
    log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(wanted["environment"])
    for name, arguments in wanted["sabotage"].items():
        getattr(sabotage, name)(**arguments)
    sys.argv = ["img2img-worker", *wanted["arguments"]]
    try:
        main()
    except SystemExit as end:
        os._exit(int(end.code or 0))
    os._exit(70)


if __name__ == "__main__":
    serve()
