"""The cost of HTTP: uploads, polling and event streams, as a table.

``python -m bench.gateway``: a gateway of its own process, a real Redis, a folder store. No worker renders;
images are ended through the ledger.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
import uuid
import zlib
from pathlib import Path

import httpx

from img2img_shared.job import result_key
from img2img_shared.ledger import Ledger
from img2img_shared.ledger.connect import connect
from img2img_shared.records import WorkerInfo
from img2img_shared.store import Store
from tests.plain_png import plain_png
from tests.servers import RedisServer

#: bytes of one uploaded picture: a small photograph
SIZE = 100_000
#: where the gateway listens
PORT = 18760


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=1000)
    options.add_argument("--pollers", type=int, default=200)
    options.add_argument("--watchers", type=int, default=500)
    given = options.parse_args()
    server = RedisServer()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from img2img_producer.cli import main; main()"]
        command += ["--redis-url", server.url, "--store-url", folder, "gateway", "--port", str(PORT)]
        process = subprocess.Popen(command)
        try:
            bench = Bench(f"http://127.0.0.1:{PORT}", process.pid, server.url, Path(folder))
            asyncio.run(bench.run(given.images, given.pollers, given.watchers))
        finally:
            process.terminate()
            process.wait()
            server.remove()


class Bench:
    """One gateway under load."""

    def __init__(self, url: str, pid: int, redis_url: str, folder: Path) -> None:
        self._url = url
        self._pid = pid
        self._redis = connect(redis_url)
        self._ledger = Ledger(self._redis)
        self._store = Store(folder)

    async def run(self, images: int, pollers: int, watchers: int) -> None:
        """All of it."""
        self._ledger.beat(WorkerInfo(id="w", model="m", device="none", slots=4))
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self._url, timeout=300, limits=limits) as http:
            await self._ready(http)
            print(f"{'what':<52} {'seconds':>8} {'a second':>9} {'CPU s':>7} {'peak MiB':>9}")
            jobs = {}
            for n in (images // 10, images):
                jobs[n] = await self._submit(http, n)
            for n, job in jobs.items():
                await self._poll(job, n, pollers)
            await http.post(f"/v1/jobs/{jobs[images // 10]}/cancel")
            await self._watch(http, jobs[images], watchers, images)

    async def _ready(self, http: httpx.AsyncClient) -> None:
        while True:
            try:
                await http.get("/internal/ping")
            except httpx.TransportError:
                await asyncio.sleep(0.1)
            else:
                return

    async def _submit(self, http: httpx.AsyncClient, n: int) -> str:
        with Measure(self._pid, f"submit {n} pictures of {SIZE // 1000} kB in one form", n):
            files = [("image", (f"{i}.png", _picture(i))) for i in range(n)]
            answer = await http.post("/v1/jobs/upload", data={"model": "m", "width": "64"}, files=files)
        answer.raise_for_status()
        return str(answer.json()["id"])

    async def _poll(self, job: str, n: int, pollers: int) -> None:
        """By sockets: with that many connections, a client library would mainly measure itself."""
        waits: list[float] = []

        async def one() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
            for _ in range(10):
                begun = time.perf_counter()
                writer.write(f"GET /v1/jobs/{job} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if not head.startswith(b"http/1.1 200"):
                    raise RuntimeError(head.decode())
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
                waits.append(time.perf_counter() - begun)
            writer.close()

        with Measure(self._pid, f"{pollers} clients ask 10 times for a job of {n}", pollers * 10):
            await asyncio.gather(*(one() for _ in range(pollers)))
        waits.sort()
        middle, late = (1000 * waits[int(len(waits) * share)] for share in (0.5, 0.99))
        print(f"    of these, half within {middle:.0f} ms, 99 in 100 within {late:.0f} ms", flush=True)

    async def _watch(self, http: httpx.AsyncClient, job: str, watchers: int, n: int) -> None:
        seen = [0] * watchers
        ready = asyncio.Semaphore(0)

        async def one(index: int) -> None:
            async with http.stream("GET", f"/v1/jobs/{job}/events") as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        seen[index] += line.count('"state":"done","index":')
                        ready.release()

        async with asyncio.TaskGroup() as group:
            for index in range(watchers):
                group.create_task(one(index))
            for _ in range(watchers):
                await ready.acquire()
            with Measure(self._pid, f"{watchers} streams see {n} images end", watchers * n):
                await asyncio.to_thread(self._end, n)
                while min(seen) < n:
                    await asyncio.sleep(0.05)

    def _end(self, n: int) -> None:
        """Ends images as workers would, a hundred per second."""
        for _ in range(n):
            claim = self._ledger.claim("m", "w", uuid.uuid4().hex, idle=True)
            if claim is None:
                return
            self._store.put(result_key(claim.job_id, claim.index, "png"), plain_png(1))
            self._ledger.finish(claim)
            time.sleep(0.01)


class Measure:
    """Print the time of a block, and the CPU time of the gateway's process for it."""

    def __init__(self, pid: int, what: str, count: int) -> None:
        self._pid = pid
        self._what = what
        self._count = count

    def __enter__(self) -> None:
        self._cpu = self._used()
        self._begun = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self._begun
        cpu = self._used() - self._cpu
        rate = self._count / seconds
        print(f"{self._what:<52} {seconds:>8.2f} {rate:>9.0f} {cpu:>7.2f} {self._peak():>9.0f}", flush=True)

    def _used(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def _peak(self) -> float:
        status = Path(f"/proc/{self._pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024


def _picture(number: int) -> bytes:
    """A different PNG each time, as large as a small photograph."""
    return plain_png(128) + zlib.crc32(number.to_bytes(4, "big")).to_bytes(4, "big") * (SIZE // 4)


if __name__ == "__main__":
    main()
