"""Keeps one command running for as long as any program is connected, then stops it.

The embedded server and its worker belong to all the programs that use them, not to the one that came first.
Each holds a connection; the kernel closes it however the program ends (Ctrl-C, crash, SIGKILL). When the
last one is gone the command gets SIGTERM, and time. A program that wants to know that all is down shuts down
its side and reads until the end: it comes at once if others go on, else after the command has ended.

Run by its path, on the standard library alone: ``python supervisor.py SOCKET LOCK LOG FD COMMAND...``,
where FD is the first program's connection. Says "+" to each program that connects.
"""

import contextlib
import ctypes
import fcntl
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

#: seconds a command has between SIGTERM and SIGKILL
GRACE = 30.0
#: seconds to wait for a command before this one that is still stopping
PATIENCE = 60.0


def main(path: str, lock_path: str, log_path: str, fd: str, *command: str) -> int:
    """Run `command` until nobody is connected or it ends by itself; returns its exit status."""
    if os.fork():
        os._exit(0)  # the program that started this need not wait for it, nor reap it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    lock = _take_lock(lock_path)
    if lock is None:
        os.write(log, f"supervisor: {lock_path} is still held by an earlier process\n".encode())
        return 1
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        first = socket.socket(fileno=int(fd))
        # the command holds the lock too: should the supervisor be killed, nothing starts beside the command
        child = subprocess.Popen(  # noqa: S603  (running it is all this is for)
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=[lock],
            preexec_fn=_die_with_supervisor,  # there is one thread: nothing that a fork could break
        )
        last = _watch(child, listener, first)
    status = _stop(child)
    _clear_away(Path(path), Path(lock_path).with_name("start"))
    for connection in last:
        connection.close()
    return status


def _watch(
    child: subprocess.Popen[bytes], listener: socket.socket, first: socket.socket
) -> list[socket.socket]:
    """Serve connections until the last one closes or the child ends; returns those that wait for the end."""
    users = {first}
    with selectors.DefaultSelector() as selector, _bell() as bell:
        for source in (bell, listener, first):
            selector.register(source, selectors.EVENT_READ)
        _greet(first)
        while child.poll() is None:
            for key, _ in selector.select():
                if key.fileobj is bell:
                    if signal.SIGTERM in bell.recv(64):
                        return list(users)
                elif key.fileobj is listener:
                    user, _ = listener.accept()
                    users.add(user)
                    selector.register(user, selectors.EVENT_READ)
                    _greet(user)
                elif isinstance(key.fileobj, socket.socket) and not _reads(key.fileobj):
                    if len(users) == 1:
                        return list(users)
                    users.remove(key.fileobj)
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
    return list(users)


@contextlib.contextmanager
def _bell() -> Iterator[socket.socket]:
    """A socket that receives the number of each signal that matters."""
    bell, ring = socket.socketpair()
    with bell, ring:
        ring.setblocking(False)
        signal.set_wakeup_fd(ring.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, _ignore)
        yield bell
        signal.set_wakeup_fd(-1)


def _stop(child: subprocess.Popen[bytes]) -> int:
    child.terminate()
    try:
        return child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _clear_away(path: Path, start: Path) -> None:
    """Remove our socket, which is ours while we hold the lock, and its folder if it is empty now.

    The folder only while no program starts a command: to those, supervised.py makes it anew.
    """
    with contextlib.suppress(OSError), start.open("w") as starting:
        path.unlink()
        fcntl.flock(starting, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.parent.rmdir()


def _greet(user: socket.socket) -> None:
    with contextlib.suppress(OSError):  # one that is gone already shows as an end of file
        user.send(b"+")


def _reads(user: socket.socket) -> bool:
    try:
        return bool(user.recv(64))
    except OSError:
        return False


def _take_lock(path: str) -> int | None:
    """The lock that one command at a time holds, as an open file; None if it is not released in time."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT)
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > end:
                return None
            time.sleep(0.05)
        else:
            return lock


def _die_with_supervisor() -> None:
    """On Linux, have the command receive SIGTERM if the supervisor is killed."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A signal needs a handler for its number to reach the socket."""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
