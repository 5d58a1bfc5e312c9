"""What the commands show of jobs and workers, on standard output."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import typer
from rich.table import Table

from img2img_producer.progress_display import duration, remaining, speed
from img2img_shared.command_line import print_json, print_table, say
from img2img_shared.durations import write_duration
from img2img_shared.errors import one_line
from img2img_shared.job import JobState
from img2img_shared.records import JobStatus, WorkerReport, WorkerStatus


def job_facts(status: JobStatus) -> dict[str, Any]:
    """A job's status in JSON's types: times as ISO 8601, durations in seconds."""
    times = ("created", "started", "finished", "kept_until")
    plain = {**asdict(status), "kept_until": status.kept_until, "keep": write_duration(status.keep)}
    plain["state"] = str(status.state)
    for name in times:
        plain[name] = plain[name] and plain[name].isoformat()
    return plain


def worker_facts(worker: WorkerStatus) -> dict[str, Any]:
    """A worker in JSON's types."""
    counts = {"running": worker.running, "seen": worker.seen.isoformat()}
    return {**asdict(worker.info), **asdict(worker.report), **counts}


def show_job(status: JobStatus) -> None:
    """A job in full, on standard output."""
    runs = status.state is JobState.RUNNING
    facts = {
        "job": status.id,
        "name": one_line(status.name or ""),
        "owner": one_line(status.owner or ""),
        "tags": " ".join(status.tags),
        "model": status.model,
        "state": str(status.state),
        "priority": str(status.priority),
        "images": f"{status.n}: " + _counts(status),
        "waits for": status.waits_for or "",
        "rate": speed(status.rate) if status.rate and runs else "",
        "to go": remaining(status),
        "submitted": f"{status.created.astimezone():%Y-%m-%d %H:%M:%S}",
        "took": _took_text(status),
        "kept": _kept_text(status),
    }
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if value:
            table.add_row(name, value)
    print_table(table)


def show_jobs(jobs: Iterable[JobStatus], otherwise: str) -> None:
    """One line for each job; `otherwise` where there is none."""
    found = list(jobs)
    rows = [
        (
            job.id,
            one_line(job.name or ""),
            one_line(job.owner or ""),
            " ".join(job.tags),
            f"{job.created.astimezone():%m-%d %H:%M}",
            str(job.state),
            str(job.priority),
            job.model,
            _counts(job),
            remaining(job),
        )
        for job in found
    ]
    head = ("job", "name", "owner", "tags", "submitted", "state", "priority", "model", "images", "to go")
    show_table(head, rows, otherwise)


def show_workers(workers: Iterable[WorkerStatus]) -> None:
    """One line for each worker, and below them what is wrong with any."""
    found = list(workers)
    rows = [
        (
            each.info.id,
            each.info.model + (" (loading)" if each.report.loading else ""),
            str(len(each.info.others) or ""),
            (each.info.sha256 or "")[:10],
            each.info.device,
            f"{each.running} ({each.info.slots} at a time)",
            ", ".join(each.report.jobs),
            f"{each.report.rate:.0f}" if each.report.rate >= 10 else f"{each.report.rate:.2g}",
            _memory(each.report),
            duration(each.report.uptime),
        )
        for each in found
    ]
    head = ("worker", "model", "of", "hash", "device", "in hand", "jobs", "per min", "memory", "up")
    show_table(head, rows, "no workers (start one: img2img worker --help)")
    for each in found:
        if each.report.trouble:
            typer.echo(f"{each.info.id} claims nothing for now: {each.report.trouble}")
        elif each.report.last_error:
            ago = duration(each.report.last_error_ago)
            typer.echo(f"{each.info.id}'s last error, {ago} ago: {each.report.last_error}")


def show_facts(facts: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """What a command did, as JSON or as a line."""
    if as_json:
        print_json(facts)
    else:
        typer.echo(text)


def show_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], otherwise: str) -> None:
    """A line for each row, without columns that are empty; `otherwise` where there is no row."""
    if not rows:
        say(otherwise)
        return
    told = [index for index in range(len(head)) if any(row[index] for row in rows)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for index in told:
        table.add_column(
            head[index], no_wrap=index == 0, min_width=16 if index == 0 else None
        )  # ids are copied
    for row in rows:
        table.add_row(*(row[index] for index in told))
    # a pipe has no width: no cell is cut for the sake of one
    width = None if sys.stdout.isatty() else 10_000
    print_table(table, width=width)


def _counts(status: JobStatus) -> str:
    counts = {name: getattr(status, name) for name in ("done", "running", "pending", "failed", "cancelled")}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _kept_text(status: JobStatus) -> str:
    if status.kept_until is not None:
        return f"until {status.kept_until.astimezone():%Y-%m-%d %H:%M}"
    return "" if status.keep is None else f"{write_duration(status.keep)} after its end"


def _took_text(status: JobStatus) -> str:
    if status.started is None or status.finished is None:
        return ""
    return duration((status.finished - status.started).total_seconds())


def _memory(report: WorkerReport) -> str:
    gib = 2**30
    host = f"{report.memory / gib:.1f} GiB"
    if not report.device_memory_total:
        return host
    return f"{host}, device {report.device_memory / gib:.1f} of {report.device_memory_total / gib:.0f}"
