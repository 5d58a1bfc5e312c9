"""The faulty farm, and the table that `make faults` prints at its end."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.checkpoints import cached, sd1
from tests.faults.farm import FaultyFarm, ForkServer


@dataclass(kw_only=True)
class Row:
    """One fault's outcome."""

    fault: str
    lost: int
    finished_twice: int
    run_twice: int
    seconds: float


class Account:
    """Checks what every fault must leave behind, and hands over the table's rows."""

    def __init__(self, record: Callable[[Row], None]) -> None:
        self._record = record
        self._since = time.monotonic()

    def fault(self) -> None:
        """The fault happens now: the time to recovery begins."""
        self._since = time.monotonic()

    def since(self) -> float:
        """Seconds since the fault."""
        return time.monotonic() - self._since

    def settle(
        self, farm: FaultyFarm, name: str, *jobs: str, failed: int = 0, seconds: float | None = None
    ) -> None:
        """Check that every image of `jobs` is done once, with a whole picture; `failed` ones have a reason.

        `seconds`: what the table is to say, where that is not the time until all jobs have ended.
        """
        lost = twice = again = 0
        ended = [farm.done(job) for job in jobs]
        seconds = self.since() if seconds is None else seconds
        for job, status in zip(jobs, ended, strict=True):
            lost += status.n - status.done - status.failed
            lost += status.done - len(farm.pictures(job))
            twice += sum(count > 1 for count in farm.finishes(job))
            again += sum(attempt > 1 for attempt in farm.attempts(job))
        reasons = sum(len(farm.reasons(job)) for job in jobs)
        self._record(Row(fault=name, lost=lost, finished_twice=twice, run_twice=again, seconds=seconds))
        assert (lost, twice, reasons) == (0, 0, failed)


#: name under which a test's report carries rows, from whichever process it ran in
ROW = "fault"


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Forks workers for all tests."""
    fork_server = ForkServer()
    yield fork_server
    fork_server.close()


@pytest.fixture
def farm(
    tmp_path: Path, fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaultyFarm]:
    """A farm without workers."""
    with FaultyFarm(tmp_path, fork_server, cached(tmp_path_factory, sd1)) as farm:
        yield farm


@pytest.fixture
def account(record_property: Callable[[str, object], None]) -> Account:
    """Checks what a fault has left behind."""
    return Account(lambda row: record_property(ROW, asdict(row)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table."""
    rows = [
        Row(**facts)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, facts in report.user_properties
        if name == ROW
    ]
    if not rows:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(
        f"{'fault':<60} {'lost':>5} {'finished twice':>15} {'run twice':>10} {'seconds':>8}"
    )
    for row in rows:
        counts = f"{row.lost:>5} {row.finished_twice:>15} {row.run_twice:>10} {row.seconds:>8.1f}"
        terminalreporter.write_line(f"{row.fault:<60} {counts}")
