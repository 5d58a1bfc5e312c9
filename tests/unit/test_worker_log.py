"""What a worker's log says, and how."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from img2img_shared.records import Claim, ExpiredLeases, WorkerInfo
from img2img_worker.farm import log_observer, logs
from img2img_worker.farm.events import (
    BackInService,
    Claimed,
    Event,
    Failed,
    Finished,
    LetGo,
    Loaded,
    Lost,
    OutOfMemory,
    OutOfService,
    PutBack,
    TakenBack,
    TooLate,
    Warned,
    tell_all,
)
from img2img_worker.farm.log_observer import LogObserver

CLAIM = Claim(
    job_id="job-1", tenant="ann", index=3, attempt=2, model="sd15", worker="w", nonce="n", alone=False
)
WORKER = WorkerInfo(id="host-1-abc", model="sd15", device="cuda:0", slots=32)


class Log:
    """What was written so far."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self._text = io.StringIO()
        self.handler = logging.StreamHandler(self._text)
        self.handler.setFormatter(formatter)
        self.handler.addFilter(logs.RepeatFilter())
        self.observer = LogObserver()

    def tell(self, *events: Event) -> list[str]:
        """The lines that are written for these."""
        before = len(self.lines)
        for event in events:
            self.observer(event)
        return self.lines[before:]

    @property
    def lines(self) -> list[str]:
        return self._text.getvalue().splitlines()


@pytest.fixture(params=["text"])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    formatter = logs.JsonFormatter() if request.param == "json" else logs.OneLineFormatter()
    log = Log(formatter)
    log_observer.log.addHandler(log.handler)
    log_observer.log.setLevel(logging.INFO)
    yield log
    log_observer.log.removeHandler(log.handler)
    log_observer.log.setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            Loaded(worker=WORKER, family="SD 1", memory="5.0 GiB of memory", seconds=12.3),
            "INFO    host-1-abc serves sd15 (SD 1) on cuda:0: 32 slots, 5.0 GiB of memory, loaded in 12.3 s",
        ),
        (PutBack(claim=CLAIM, reason="no memory"), "WARNING image 3 of job job-1: put back: no memory"),
        (
            Lost(claim=CLAIM, cancelled=False, holder="w2"),
            "WARNING image 3 of job job-1: stopped: its lease was lost; w2 has it now",
        ),
        (
            Lost(claim=CLAIM, cancelled=True, holder=None),
            "INFO    image 3 of job job-1: stopped: its job was cancelled",
        ),
        (TooLate(claim=CLAIM), "WARNING image 3 of job job-1: reported in vain: another attempt has it"),
        (
            TakenBack(leases=ExpiredLeases(handed_back=2, suspects=1)),
            "WARNING leases ran out: 2 handed back, 1 suspected, as their workers died",
        ),
        (OutOfMemory(slots=4, put_back=4), "WARNING out of memory: 4 slots for now, 4 images wait again"),
        (
            OutOfService(reason="the store is full", detail="s3://b is full"),
            "ERROR   claims nothing more for now: s3://b is full",
        ),
        (BackInService(seconds=61.2), "INFO    claims again, after 61 s"),
    ],
)
def test_each_event_that_matters_is_a_line(log: Log, event: Event, said: str) -> None:
    (line,) = log.tell(event)
    assert line.split(" ", 2)[2] == said


def test_a_jobs_images_are_counted_and_its_failures_told(log: Log) -> None:
    (begun,) = log.tell(Claimed(claim=CLAIM), Claimed(claim=CLAIM))
    assert begun.endswith("job job-1: its first image here (tenant ann)")
    (failed,) = log.tell(
        Finished(claim=CLAIM, seconds=1.0),
        LetGo(claim=CLAIM),
        Failed(claim=CLAIM, reason="image is empty: give a picture"),
    )
    assert failed.endswith("WARNING image 3 of job job-1: failed: image is empty: give a picture")
    log.observer.say_ends(quiet=0.0)
    assert len(log.lines) == 2  # one is still in hand
    log.tell(LetGo(claim=CLAIM))
    log.observer.say_ends(quiet=0.0)
    assert "job job-1: none left here: 1 done, 1 failed in " in log.lines[2]
    assert log.lines[2].endswith(" images/s")
    assert log.tell(Claimed(claim=CLAIM))  # it begins anew


def test_a_repeated_warning_is_written_once_with_a_count(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    alike = [
        Warned(text=f"cannot read {number} in s3://b: no answer", like="no answer") for number in range(9)
    ]
    assert len(log.tell(*alike)) == 1
    assert len(log.tell(Warned(text="another"))) == 1
    monkeypatch.setattr(logs, "REPEATS", 0.0)
    (line,) = log.tell(alike[0])
    assert line.rstrip("0123456789 s)").endswith("no answer (8 more like this in the last")


@pytest.mark.parametrize("log", ["json"], indirect=True)
def test_programs_read_lines_of_json(log: Log) -> None:
    failed, unforeseen = log.tell(
        PutBack(claim=CLAIM, reason="no\nmemory"), Warned(text="oh", error=ZeroDivisionError("x"))
    )
    told = json.loads(failed)
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "warning",
        "message": "image 3 of job job-1: put back: no\nmemory",
        "event": "put back",
        "job": "job-1",
        "tenant": "ann",
        "image": 3,
        "attempt": 2,
        "reason": "no\nmemory",
    }
    assert json.loads(unforeseen)["traceback"] == "ZeroDivisionError: x"


def test_what_goes_wrong_with_one_observer_is_not_the_others_affair(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[Event] = []

    def fail(_: Event) -> None:
        raise ZeroDivisionError

    tell_all(fail, heard.append)(BackInService(seconds=1))
    assert len(heard) == 1
    assert "an observer failed at BackInService" in caplog.text
