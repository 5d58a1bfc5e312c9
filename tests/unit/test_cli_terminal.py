"""What the commands show of workers."""

from datetime import UTC, datetime

import pytest

from img2img_producer.cli.terminal import show_workers
from img2img_shared.records import WorkerInfo, WorkerReport, WorkerStatus


def test_a_worker_may_have_more_images_in_hand_than_it_renders_at_a_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    info = WorkerInfo(id="host-1", model="sd15", device="cuda:0", slots=4)
    show_workers(
        [WorkerStatus(info=info, report=WorkerReport(), running=6, seen=datetime(2026, 1, 1, tzinfo=UTC))]
    )
    head, row = capsys.readouterr().out.splitlines()
    assert "in hand" in head
    assert "6 (4 at a time)" in row
