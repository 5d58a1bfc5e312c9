"""What commands that render tell while they wait, and when they are stopped."""

import shlex
from pathlib import Path

import typer

from img2img_producer.cli.farm_choice import come_back, settings_of
from img2img_producer.client import Farm
from img2img_shared.command_line import say


def say_who_renders(context: typer.Context, farm: Farm, job: str) -> None:
    """That a job waits for a worker, where none is there: who only sees nothing happen cannot tell why."""
    model, others = _unserved_model(farm, job)
    if model and farm.is_embedded:
        up = come_back(context, f"up --model {shlex.quote(model)}")
        say(f"nothing renders it until this farm runs: {up}, or {come_back(context, f'watch {job}')}")
    elif model:
        told = f"; served now: {', '.join(others)}" if others else ""
        say(f"no worker serves {model!r} yet, the job waits for one{told}")


def say_what_comes_first(context: typer.Context, farm: Farm, job: str) -> None:
    """What a command that stays will wait for before the first image."""
    if not farm.is_embedded:
        say_who_renders(context, farm, job)
    elif model := _unserved_model(farm, job)[0]:
        say(f"loading {model} ...")


def _unserved_model(farm: Farm, job: str) -> tuple[str | None, list[str]]:
    """The model that a job waits for, None if that is served or the job has ended; and those served."""
    status = farm.status(job)
    served = sorted({model for worker in farm.workers() for model in worker.info.models})
    return (None if status.finished is not None or status.model in served else status.model), served


def is_elsewhere(context: typer.Context) -> bool:
    """Whether a farm is named, so that the workers may be on other machines."""
    settings = settings_of(context)
    return (settings.farm_url or settings.redis_url) is not None


def say_left(context: typer.Context, farm: Farm, command: str) -> None:
    # a farm of this machine rests where no other program uses it
    becomes = "is kept" if farm.is_embedded else "goes on"
    say(f"the job {becomes}; to come back: {come_back(context, command)}")


def say_stopped(context: typer.Context, farm: Farm, job: str, out: Path) -> None:
    folder = shlex.quote(str(out))
    if not farm.is_embedded:
        say(f"the job goes on without this program. To come back: {come_back(context, f'watch {job}')}")
        say(f"for its results: {come_back(context, f'fetch {job} --out {folder}')}")
        return
    farm.pause(job)  # else the next program on this farm would go on with it, wanted or not
    again = come_back(context, f"render --resume {job} --out {folder}")
    say(f"stopped; what is done is kept. To go on where it was: {again}")
