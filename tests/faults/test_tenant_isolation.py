"""Other tenants, guessed ids, and text that wants to be a path, a log line or a command."""

import random
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from img2img_producer import Farm
from img2img_shared.errors import NotFound, Refused
from img2img_shared.job import JobState
from tests.eventually import eventually
from tests.faults.conftest import Account
from tests.faults.farm import ROOT, FaultyFarm, picture

FORGED = "2026-01-01 00:00:00,000 INFO    forged"
TEXTS = {
    "newlines": f"a\n{FORGED}\r\n{FORGED}",
    "escape sequences": "\x1b[31mred\x1b]0;title\x07\x9b2J\x08\x7f",
    "a path": "../../../../tmp/pwned/../pwned",
    "an absolute path": "/pwned/pwned.png",
    "a shell's": "$(touch pwned) `touch pwned`; touch pwned | touch pwned && touch pwned #",
    "formats": "%s%n{0}{prefix}%(asctime)s",
    "another direction": "\u202egnp.exe\u2066\u200b",
    "a key of the ledger": "}:job:x:done",
    "a NUL": "a\0b",
    "an option": "--help",
}
LONG = "long " * 4000


def test_another_tenant_finds_no_job_at_any_level(farm: FaultyFarm, account: Account) -> None:
    job = farm.submit(3)
    farm.producer.pause(job)
    never = "0" * 16
    out = farm.folder / "stolen"
    commands: list[tuple[str, ...]] = [
        ("status", "JOB"),
        ("status", "JOB", "--images", "--json"),
        ("watch", "JOB"),
        ("fetch", "JOB", "--out", str(out)),
        ("fetch", "JOB", "--wait", "--out", str(out)),
        ("render", "--resume", "JOB", "--out", str(out)),
        ("cancel", "JOB"),
        ("pause", "JOB"),
        ("resume", "JOB"),
        ("retry", "JOB"),
        ("priority", "JOB", "5"),
    ]
    asked = [[word.replace("JOB", name) for word in words] for words in commands for name in (job, never)]
    said = [farm.command_line(*words, tenant="other") for words in asked]
    for words, foreign, unknown in zip(commands, said[::2], said[1::2], strict=True):
        assert (foreign.returncode, foreign.stdout) == (2, ""), words
        assert f"no job {job!r}" in foreign.stderr, words
        # nothing tells a job of somebody else from one that never was
        assert foreign.stderr.replace(job, never) == unknown.stderr, words
    assert farm.command_line("jobs", "--json", tenant="other").stdout == "[]\n"
    assert not list(out.glob("**/*"))

    with Farm(settings=farm.settings, tenant="other") as other:
        asks: list[Callable[[str], Any]] = [other.status, other.job, other.cancel, other.pause]
        asks += [other.resume, other.retry, lambda job: other.set_priority(job, 5)]
        asks += [lambda job: list(other.images(job)), lambda job: list(other.results(job, wait=False))]
        asks += [lambda job: next(other.watch(job)), lambda job: other._service.ledger.events(job, "other")]
        for ask in asks:
            with pytest.raises(NotFound, match=job):
                ask(job)
        # keys of one tenant mean nothing to another
        mine = farm.submit(1, idempotency_key="once")
        wanted: dict[str, Any] = {"steps": 4, "width": 64, "height": 64, "model": farm.model}
        theirs = other.submit(picture(0), idempotency_key="once", **wanted)
        assert theirs != mine
        other.cancel(theirs)
    status = farm.status(job)
    assert (status.state, status.priority, status.pending) == (JobState.PAUSED, 0, 3)
    account.fault()
    farm.producer.resume(job)
    farm.worker()
    account.settle(farm, "another tenant at it, with all commands", job, mine)


def test_ids_cannot_be_guessed(farm: FaultyFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, str]] = []
    draw = secrets.token_hex

    def seen(size: int) -> str:
        drawn.append((size, draw(size)))
        return drawn[-1][1]

    monkeypatch.setattr(secrets, "token_hex", seen)
    ids = []
    for _ in range(20):
        random.seed(0)
        ids.append(farm.submit(1))
    assert set(ids) <= {text for size, text in drawn if 8 * size >= 64}
    assert len(set(ids)) == 20


def test_text_of_users_stays_text(farm: FaultyFarm, account: Account) -> None:
    jobs: list[str] = []
    inputs: list[dict[str, Any]] = []
    for number, text in enumerate((*TEXTS.values(), LONG)):
        inputs.append({"image": picture(number), "name": text[:255], "prompt": text, "negative_prompt": text})
    # two that fail, and whose reasons quote what was sent
    inputs.append({"image": b"\x1b[31m\n" + FORGED.encode(), "name": TEXTS["escape sequences"]})
    inputs.append({"image": picture(0), "prompt": f"<lora:{TEXTS['a path']}\x1b[31m:1>"})
    wanted: dict[str, Any] = {"model": farm.model, "steps": 1, "width": 64, "height": 64}
    jobs.append(farm.producer.submit(inputs, **wanted))
    for text in TEXTS.values():
        # as a prompt and a key of the whole job, by the command line where a command line can hold it
        if "\0" in text:
            jobs.append(farm.producer.submit(picture(1), prompt=text, idempotency_key=text, **wanted))
            continue
        (farm.folder / "one.png").write_bytes(picture(1))
        said = farm.command_line(
            *("submit", str(farm.folder / "one.png"), "--model", farm.model),
            *("--steps=1", "--width=64", "--height=64"),
            f"--prompt={text}",
            f"--idempotency-key={text}",
        )
        assert said.returncode == 0, said.stderr
        jobs.append(said.stdout.strip())
        assert farm.producer.job(jobs[-1]).params.prompt == text
    assert len(set(jobs)) == len(jobs)

    account.fault()
    worker = farm.worker(log_level="debug")
    account.settle(farm, "hostile text in every field", *jobs, failed=2)
    first, *others = jobs
    assert all(reason.isprintable() for reason in farm.reasons(first).values())
    log = worker.log.read_text()
    assert re.fullmatch(r"((\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ +|  )[^\x00-\x1f\x7f-\x9f\u2028-\u202e]*\n)*", log)
    assert not re.search(f"^{FORGED}", log, re.MULTILINE)

    before = files(farm.folder)
    out = farm.folder / "out"
    for job in jobs:
        for words in (("fetch", job, "--out", str(out / job)), ("status", job, "--images")):
            said = farm.command_line(*words)
            assert "Traceback" not in said.stderr
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", said.stdout + said.stderr)
            assert f"\n{FORGED}" not in said.stdout + said.stderr
    new = files(farm.folder) - before
    assert len(new) == len(inputs) - 2 + len(others)
    assert all(path.is_relative_to(out) and len(path.relative_to(out).parts) == 2 for path in new)
    assert not any((folder / "pwned").exists() for folder in (Path(), ROOT, Path("/"), Path("/tmp")))  # noqa: S108

    stored = {str(path.relative_to(farm.folder / "store")) for path in files(farm.folder / "store")}
    key = r"farm-id|inputs/default/[0-9a-f]{64}|jobs/[0-9a-f]{16}/(\d+\.png|inputs/\d{6}\.msgpack)"
    assert not [name for name in stored if not re.fullmatch(key, name)]


def test_hostile_text_where_none_may_be_is_refused_in_a_line(farm: FaultyFarm) -> None:
    (farm.folder / "one.png").write_bytes(picture(1))
    for text in (*TEXTS.values(), LONG, ""):
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text) and text and "\0" not in text:
            said = farm.command_line("jobs", tenant=text)
            assert said.returncode == 2
            assert said.stderr.count("\n") == 1
            assert said.stderr[:-1].isprintable()
        wrong: list[dict[str, Any]] = [
            {"prompt": text * 5},
            {"sampler_name": text},
            {"idempotency_key": text * 256},
        ]
        if re.search(r"[\x00-\x1f\x7f-\x9f]", text):
            wrong.append({"model": text})
        for fields in wrong:
            if text and (len(text) > 4000 or "prompt" not in fields):
                with pytest.raises(Refused) as refused:
                    farm.submit(1, **fields)
                assert str(refused.value).isprintable()
    assert farm.producer.jobs() == []


def test_a_job_is_served_by_workers_of_exactly_its_models_name(farm: FaultyFarm, account: Account) -> None:
    names = [
        f"{farm.model}/",
        f"{farm.model}/.",
        f"{farm.model} ",
        f"../{Path(farm.model).name}",
        "*",
        "%2e%2e/x",
    ]
    stray = [farm.submit(1, model=name) for name in names]
    worker = farm.worker()
    job = farm.submit(2)
    account.fault()
    account.settle(farm, "models called like paths", job)
    assert {farm.status(name).state for name in stray} == {JobState.PENDING}
    listed = eventually("the worker is listed", farm.producer.workers)
    assert [each.info.model for each in listed] == [farm.model]
    assert worker.alive


def files(folder: Path) -> set[Path]:
    """All files below a folder."""
    return {path for path in folder.rglob("*") if path.is_file()}
