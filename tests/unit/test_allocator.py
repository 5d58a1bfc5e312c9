"""What is given back stays with a worker that renders, and is the system's where models are exchanged."""

import platform
import subprocess
import sys

import pytest

#: threads take 48 MiB and give them back, as layers do; says which of them got them from the system
_PROGRAM = """
import ctypes
import resource
from threading import Thread

from img2img_worker.farm import allocator

SIZE = 48 << 20
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
c.free.argtypes, c.memset.argtypes = (ctypes.c_void_p,), (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)


def layer():
    piece = c.malloc(SIZE)
    c.memset(piece, 1, SIZE)
    c.free(piece)


def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = Thread(target=layer)
    thread.start()
    thread.join()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize()


allocator.use_one_heap()
with allocator.loading(keeps=KEEPS):
    loading = pages(), pages()
serving = pages(), pages()
allocator.give_back()
print(*(size / SIZE > 0.9 for size in (*loading, *serving, pages())))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of another C library")
@pytest.mark.parametrize(
    ("keeps", "asked_for"), [(True, [True, True, True, False, True]), (False, [True] * 5)]
)
def test_memory_is_asked_for_anew_only_where_it_went_back(keeps: bool, asked_for: list[bool]) -> None:
    program = [sys.executable, "-c", _PROGRAM.replace("KEEPS", str(keeps))]
    told = subprocess.run(program, check=True, capture_output=True, text=True, timeout=300).stdout
    assert told.split() == [str(each) for each in asked_for]
