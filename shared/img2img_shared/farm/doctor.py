"""Checks everything a farm needs, and says what is wrong and what to do about it."""

import json
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from img2img_shared.checkpoints import checkpoints_in
from img2img_shared.errors import FarmError
from img2img_shared.farm.marker import StoreMarker
from img2img_shared.ledger import Ledger, connect
from img2img_shared.ledger.connect import FarmRedis
from img2img_shared.ledger.redis_url import read_redis_url
from img2img_shared.ledger.server_facts import ServerFacts, server_facts
from img2img_shared.pushed_models.model_index import ModelIndex
from img2img_shared.pushed_models.model_objects import ModelObjects
from img2img_shared.settings import Settings
from img2img_shared.store import Store

#: the oldest Redis that a farm can use
OLDEST = 7
#: milliseconds of a call to Redis, and seconds between two clocks, that are worth a word
SLOW, APART = 20.0, 5.0
#: share of Redis' memory that may be full
FULL = 0.8
#: bytes written to the store and read back
PROBE = 64 * 1024


class Verdict(StrEnum):
    """The result of one check."""

    OK = "ok"
    ADVICE = "advice"  # it works, and could be better or is about to fail
    WRONG = "wrong"  # it does not work, or would lose work


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was checked."""

    part: str
    verdict: Verdict
    #: what was found, and what to do about it where that is something
    text: str


def examine(settings: Settings, redis_url: str, store_url: str) -> Iterator[Finding]:
    """Check the farm and this machine, one thing after the other."""
    yield from examine_farm(settings, redis_url, store_url)
    yield examine_device(settings.device)


def examine_farm(settings: Settings, redis_url: str, store_url: str) -> Iterator[Finding]:
    """Check Redis, store, models folder and workers."""
    ledger = None
    try:
        redis = connect(redis_url, settings.prefix)
    except FarmError as error:
        yield _wrong("redis", f"{str(error).rstrip('.')}. Start it, or set IMG2IMG_REDIS_URL")
    else:
        ledger = Ledger(redis, lease=settings.lease)
        yield from _redis(redis, str(read_redis_url(redis_url)))
    yield from _store(store_url, ledger)
    yield from _models(settings.models_dir)
    if ledger is not None:
        yield from _check_pushed(redis, ledger, store_url)
        yield from _workers(ledger)


def _redis(redis: FarmRedis, where: str) -> Iterator[Finding]:
    try:
        facts = server_facts(redis)
    except FarmError as error:
        yield _wrong("redis", str(error))
        return
    yield _ok("redis", f"{where} answers: version {facts.version}, {facts.latency:.1f} ms a call")
    if int(facts.version.split(".")[0]) < OLDEST:
        yield _wrong(
            "redis", f"version {facts.version} is too old: install Redis {OLDEST} or newer, or Valkey"
        )
    if facts.takes_no_writes is not None:
        yield _wrong("redis", facts.takes_no_writes)
    if facts.latency > SLOW:
        yield _advice(
            "redis",
            f"a call takes {facts.latency:.0f} ms, and each image needs several: move closer to it",
        )
    if abs(facts.clock) > APART:
        yield _advice(
            "clock",
            f"this machine's clock is {abs(facts.clock):.0f} s {'slow' if facts.clock > 0 else 'fast'} by "
            "that of Redis. The farm goes by Redis, but S3 and webhooks refuse what is far off: set up NTP",
        )
    yield from _keeping(facts)


def _keeping(facts: ServerFacts) -> Iterator[Finding]:
    """Whether Redis keeps its data."""
    if facts.append_only is None or facts.memory is None:
        yield _advice(
            "redis",
            "this user may not run INFO: check that appendonly is yes and maxmemory-policy is noeviction",
        )
        return
    if facts.disk_fails:
        yield _wrong("redis", "its last write to disk failed: look at its log, and whether its disk is full")
    if not facts.append_only:
        yield _wrong("redis", "it keeps no append-only file: a restart would forget jobs. Set appendonly yes")
    else:
        yield _ok("redis", "it keeps an append-only file")
    if facts.eviction != "noeviction":
        yield _wrong(
            "redis",
            f"when its memory is full it drops keys ({facts.eviction}): set maxmemory-policy noeviction",
        )
    if facts.most_memory and facts.memory > FULL * facts.most_memory:
        yield _advice(
            "redis",
            f"{facts.memory / facts.most_memory:.0%} of its memory is used, and jobs are refused at 100%: "
            "raise maxmemory, or shorten IMG2IMG_KEEP_JOBS",
        )


def _store(url: str, ledger: Ledger | None) -> Iterator[Finding]:
    try:
        store = Store(url)
        store.try_out(f"doctor/{secrets.token_hex(8)}", PROBE)
    except FarmError as error:
        yield _wrong("store", str(error))
        return
    yield _ok("store", f"{url} can be written, read and cleared")
    try:
        signed = store.sign("farm-id", 60)
    except FarmError as error:
        yield _advice("store", f"it cannot sign links to results, so the gateway sends them itself: {error}")
    else:
        if signed is not None:
            yield _ok("store", "it signs links to results")
    if ledger is not None:
        try:
            StoreMarker(store, ledger).check()
        except FarmError as error:
            yield _wrong("store", str(error))
        else:
            yield _ok("store", "it is this farm's")


def _models(folder: Path | None) -> Iterator[Finding]:
    if folder is None:
        told = "a worker's --model must be a path, demo, or one that was pushed"
        yield _ok("models", f"IMG2IMG_MODELS_DIR is not set: {told}")
        return
    if not folder.expanduser().is_dir():
        yield _wrong("models", f"{folder} is no folder: mount it, or set IMG2IMG_MODELS_DIR")
        return
    if names := list(checkpoints_in(folder.expanduser())):
        yield _ok("models", f"{folder} has {_some(names)}")
    else:
        yield _advice(
            "models", f"{folder} has no checkpoint: put .safetensors files or diffusers folders there"
        )


def _check_pushed(redis: FarmRedis, ledger: Ledger, store_url: str) -> Iterator[Finding]:
    """Check the models that workers can fetch. Whatever is wrong with the store itself has been reported."""
    with suppress(FarmError):
        store = Store(store_url)
        StoreMarker(store, ledger).check()
        found = ModelIndex(redis, ModelObjects(store)).all().values()
        if names := [each.model for each in found if each.kind == "checkpoint"]:
            yield _ok("models", f"the store has {_some(names)}, which workers without --model fetch")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _workers(ledger: Ledger) -> Iterator[Finding]:
    try:
        workers, demand = ledger.workers(), ledger.demand()
    except FarmError as error:
        yield _wrong("workers", str(error))
        return
    served = Counter(model for worker in workers for model in worker.info.models)
    if served:
        told = ", ".join(f"{count} for {model}" for model, count in sorted(served.items()))
        yield _ok("workers", f"{len(workers)} live: {told}")
    else:
        yield _advice("workers", "none lives, so jobs wait. Start one: img2img worker --model NAME")
    for worker in workers:
        if worker.report.trouble is not None:
            yield _advice("workers", f"{worker.info.id} claims nothing: {worker.report.trouble}")
    for each in demand:
        if not served[each.model] and each.waiting + each.later:
            yield _wrong(
                "workers",
                f"{each.waiting + each.later} images wait for {each.model}, and no worker has it: "
                f"img2img worker --model {each.model}",
            )
    versions = {worker.info.version or "an older one" for worker in workers}
    if versions - {version("img2img-farm")}:
        yield _advice(
            "workers",
            f"versions differ: here {version('img2img-farm')}, workers have {', '.join(sorted(versions))}. "
            "Workers first, then gateways and clients",
        )


def examine_device(wanted: str) -> Finding:
    """Check the device a worker here would render on; `wanted` is `Settings.device`."""
    if find_spec("torch") is None:
        return _ok("device", "no worker can run here: pip install 'img2img-farm[worker]' if one is to")
    # a process of its own: nobody but workers loads torch
    command = [sys.executable, "-m", "img2img_worker.devices"]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603  (our own program)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        return _wrong("device", f"torch cannot be loaded: {last}")
    facts = json.loads(done.stdout)
    if facts["gpus"]:
        told = ", ".join(f"{each['name']} ({each['memory'] / 2**30:.0f} GiB)" for each in facts["gpus"])
        has = {"cuda", *(f"cuda:{number}" for number in range(len(facts["gpus"])))}
        if missing := [name for name in wanted.split(",") if name.startswith("cuda") and name not in has]:
            reason = f"torch {facts['torch']} numbers those that it finds from cuda:0 on: {told}"
            return _wrong("device", f"IMG2IMG_DEVICE has {', '.join(missing)}, and {reason}")
        return _ok("device", f"torch {facts['torch']} finds {told}")
    if wanted.startswith("cuda"):
        return _wrong("device", f"IMG2IMG_DEVICE is {wanted}, and torch {facts['torch']} finds no GPU")
    return _ok("device", f"torch {facts['torch']} finds no GPU: a worker here renders on the CPU")


def _ok(part: str, text: str) -> Finding:
    return Finding(part=part, verdict=Verdict.OK, text=text)


def _advice(part: str, text: str) -> Finding:
    return Finding(part=part, verdict=Verdict.ADVICE, text=text)


def _wrong(part: str, text: str) -> Finding:
    return Finding(part=part, verdict=Verdict.WRONG, text=text)
