"""The commands that send pictures and bring pictures: render, submit, watch, fetch."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from img2img_producer.cli.collect import Collection, collect
from img2img_producer.cli.farm_choice import come_back, farm_of
from img2img_producer.cli.options import with_parameters
from img2img_producer.cli.render_messages import (
    is_elsewhere,
    say_left,
    say_stopped,
    say_what_comes_first,
    say_who_renders,
)
from img2img_producer.cli.render_options import (
    JobId,
    Keep,
    Key,
    Model,
    Name,
    Out,
    Overwrite,
    ParamsFile,
    Priority,
    Size,
    Tags,
)
from img2img_producer.cli.render_request import Request
from img2img_producer.cli.sources import Sources, with_sources
from img2img_producer.cli.terminal import job_facts, show_facts
from img2img_producer.client import Farm
from img2img_producer.outputs import Taken, refuse_overwriting, writable_folder
from img2img_producer.progress_display import ProgressDisplay
from img2img_producer.sheets import check_sheets, save_sheets
from img2img_producer.varied import Varied
from img2img_shared.command_line import AsJson, messages, print_json, say
from img2img_shared.errors import FarmError, NotFound, Refused
from img2img_shared.job import JobState
from img2img_shared.param_fields import EXTRAS_FIELDS
from img2img_shared.param_groups.upscaling_params import UpscalingParams

#: parameters of how results are stored that `upscale` takes
_OUTPUT = ("output_format", "quality")


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    enlarging = (*EXTRAS_FIELDS, *UpscalingParams.model_fields, *_OUTPUT)
    commands: list[Callable[..., None]] = [
        with_parameters(with_sources(render)),
        with_parameters(with_sources(upscale, ("inputs", "manifest", "recursive")), enlarging),
        with_parameters(with_sources(submit)),
        watch,
        fetch,
    ]
    for command in commands:
        app.command()(command)


def render(
    context: typer.Context,
    *,
    out: Out,
    sources: Sources,
    params: ParamsFile = None,
    size: Size = None,
    model: Model = None,
    name: Name = None,
    tag: Tags = None,
    keep: Keep = None,
    priority: Priority = 0,
    resume: Annotated[
        str | None, typer.Option(metavar="JOB", help="Continue a job that was stopped; takes no inputs.")
    ] = None,
    overwrite: Overwrite = False,
    sheet: Annotated[
        bool,
        typer.Option("--sheet", help="Lay each input's results out in one picture: NAME-sheet.png."),
    ] = False,
    json: AsJson = False,
    parameters: dict[str, Any],
) -> None:
    """Render pictures: submit them, wait with a live bar, and save the results as they finish.

    Each result keeps its input's name; further outputs of one input get -2, -3 and so on.

    [bold]Examples[/bold]

      img2img render cat.png --out out --prompt "a tiger"
      img2img render photos/ --out out --denoising-strength 0.3 --seed 7
      img2img render 'a/*.jpg' --out out --params oil.json --steps 30
      img2img render room.png --mask wall.png --out out --mask-blur 8
      img2img render photos/ --mask-dir masks/ --out out --model v1-5
      img2img render frames/ --control canny=edges/ --out out --prompt "a comic"
      img2img render --manifest frames.csv --out out
      img2img render shoots/ --recursive --prompt-files --out out
      img2img render cat.png --out out --vary steps=10,20,40 --vary cfg_scale=4,7 --sheet
      img2img render old/ --from-infotext prompt,seed --steps 40 --out out

    Exit status: 0 all images are done, 1 some are not (the reasons are told),
    2 wrong use.
    """
    if resume is not None:
        if sources.are_given or parameters or params or size or model or name or tag or sheet:
            raise Refused("resume", resume, "leave out inputs and parameters: the job has its own")
        request = None
    else:
        elsewhere = is_elsewhere(context)
        request = Request.read(sources, params, parameters, size, model, out=out, elsewhere=elsewhere)
        if sheet:
            check_sheets(request.pictures)
        _refuse_overwriting(request, out, overwrite=overwrite)
    writable_folder(out)  # now, not after hours of rendering
    with farm_of(context) as farm:
        if request is None:
            job = str(resume)
        else:
            job = request.submit(farm, name=name, tags=tag or (), keep=keep, priority=priority)
        collection = _wait_and_save(context, farm, job, out, overwrite=overwrite)
        if sheet and request is not None and isinstance(request.pictures, Varied):
            for path in save_sheets(request.pictures, collection.files, out, overwrite=overwrite):
                say(f"sheet: {path}")
        _report(collection, json)  # before its worker ends, which takes some seconds


def _refuse_overwriting(request: Request, out: Path, *, overwrite: bool) -> None:
    """That no result would go where another file lies; whose job was stopped is told how to go on with it."""
    try:
        pictures, for_all = request.pictures, request.for_all.values()
        refuse_overwriting(pictures, for_all, request.params, out, overwrite=overwrite)
    except Taken as error:
        again = f"img2img render --resume JOB --out {shlex.quote(str(out))}"
        error.add_note(f"to go on with a job that was stopped: {again} (img2img jobs lists them)")
        raise


def _wait_and_save(context: typer.Context, farm: Farm, job: str, out: Path, *, overwrite: bool) -> Collection:
    """A job's results as they finish; who is stopped meanwhile is told how to come back to it."""
    try:
        if farm.status(job).state is JobState.PAUSED:
            farm.resume(job)
        say_what_comes_first(context, farm, job)
        return collect(farm, job, out, wait=True, overwrite=overwrite)
    except KeyboardInterrupt:
        say_stopped(context, farm, job, out)
        raise
    except NotFound:
        raise
    except FarmError as error:  # such as a full disk
        again = come_back(context, f"render --resume {job} --out {shlex.quote(str(out))}")
        error.add_note(f"job {job} is kept; to go on with it: {again}")
        raise


def upscale(
    context: typer.Context,
    *,
    out: Out,
    sources: Sources,
    model: Model = None,
    priority: Priority = 0,
    overwrite: Overwrite = False,
    json: AsJson = False,
    parameters: dict[str, Any],
) -> None:
    """Enlarge pictures without rendering them, by an upscaler's network or by Lanczos.

    Networks are files in A1111's folders (ESRGAN, SwinIR, ...) of the workers'
    IMG2IMG_MODELS_DIR, and have the names that they have in A1111.

    [bold]Examples[/bold]

      img2img upscale cat.png --out out --upscaler-1 4x-UltraSharp
      img2img upscale photos/ --out out --upscaler-1 Lanczos --upscaling-resize 3
    """
    if parameters.get("upscaler_1", "None") == "None":
        raise Refused(
            "upscaler_1", None, "say what enlarges them: Lanczos, Nearest, or a network by its name"
        )
    parameters = {**parameters, "extras": True}
    render(
        context,
        out=out,
        sources=sources,
        model=model,
        priority=priority,
        overwrite=overwrite,
        json=json,
        parameters=parameters,
    )


def submit(
    context: typer.Context,
    *,
    sources: Sources,
    params: ParamsFile = None,
    size: Size = None,
    model: Model = None,
    name: Name = None,
    tag: Tags = None,
    keep: Keep = None,
    priority: Priority = 0,
    idempotency_key: Key = None,
    json: AsJson = False,
    parameters: dict[str, Any],
) -> None:
    """Submit pictures and print the job's id, without waiting.

    [bold]Example[/bold]

      job=$(img2img submit photos/ --prompt "snow" --denoising-strength 0.4)
      img2img fetch $job --out out --wait
    """
    request = Request.read(sources, params, parameters, size, model, elsewhere=is_elsewhere(context))
    with farm_of(context) as farm:
        job = request.submit(
            farm, name=name, tags=tag or (), keep=keep, priority=priority, idempotency_key=idempotency_key
        )
        show_facts(job_facts(farm.status(job)), job, as_json=json)
        say_who_renders(context, farm, job)


def watch(context: typer.Context, job: JobId, json: AsJson = False) -> None:
    """Watch a job until it ends. Ctrl-C stops the watching, not the job.

    With --json, a line for each change.
    """
    with farm_of(context) as farm:
        try:
            with ProgressDisplay(messages()) as board:
                say_what_comes_first(context, farm, job)
                for status in farm.watch(job):
                    if json:
                        print_json(job_facts(status))
                    else:
                        board.update(status)
        except KeyboardInterrupt:
            say_left(context, farm, f"watch {job}")
            raise
    if status.done < status.n:
        say(f"{status.n - status.done} images are not done: {come_back(context, f'status {job} --images')}")
        raise typer.Exit(1)


def fetch(
    context: typer.Context,
    job: JobId,
    out: Out,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the job has ended.")] = False,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Save the results of a job that are ready; with --wait, all of them."""
    with farm_of(context) as farm:
        try:
            if wait:
                say_what_comes_first(context, farm, job)
            collection = collect(farm, job, out, wait=wait, overwrite=overwrite)
        except KeyboardInterrupt:
            say_left(context, farm, f"fetch {job} --wait --out {shlex.quote(str(out))}")
            raise
        except NotFound:
            raise
        except FarmError as error:
            error.add_note(f"job {job} has its results still")
            raise
    _report(collection, json)


def _report(collection: Collection, as_json: bool) -> None:
    if as_json:
        print_json(collection.facts())
    collection.tell()
    if not collection.is_complete:
        raise typer.Exit(1)
