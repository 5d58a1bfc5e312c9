"""Starts processes quickly: torch is imported once, here; each worker, each command line is a fork of that.

Reads a JSON line for each process from standard input, and answers with its id; a line with the id of one
that has ended is answered with its exit status, as subprocess counts them.
"""

import json
import os
import sys
from typing import Any

import torch

from img2img_producer.cli import main as img2img
from img2img_worker.farm.cli import main as img2img_worker
from img2img_worker.farm.worker import run  # noqa: F401  # imported here, so that no worker must
from tests.faults import fault_injection

PROGRAMS = {"img2img": img2img, "img2img-worker": img2img_worker}


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
    out, log = (os.open(wanted[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("out", "log"))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(out, 1)
    os.dup2(log, 2)
    os.environ.update(wanted["environment"])
    for name, arguments in wanted["faults"].items():
        getattr(fault_injection, name)(**arguments)
    program, sys.argv = PROGRAMS[wanted["arguments"][0]], wanted["arguments"]
    try:
        program()
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(int(end.code or 0))
    os._exit(70)


if __name__ == "__main__":
    serve()
    os._exit(0)  # nothing needs cleaning up, which takes torch seconds
