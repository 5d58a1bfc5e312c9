"""The commands that look after jobs: status, jobs, orphans, cancel, pause, resume and so on."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from img2img_producer.cli.farm_choice import farm_of, model_of
from img2img_producer.cli.render_messages import say_who_renders
from img2img_producer.cli.render_options import JobId
from img2img_producer.cli.terminal import (
    job_facts,
    show_facts,
    show_job,
    show_jobs,
)
from img2img_shared.command_line import AsJson, print_json
from img2img_shared.errors import one_line
from img2img_shared.job import ImageState, JobState
from img2img_shared.records import ImageStatus


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    for command in (status, jobs, cancel, pause, resume, retry, keep):
        app.command()(command)
    app.command("rm")(remove)
    # else -5 were an option that there is not
    app.command(context_settings={"ignore_unknown_options": True})(priority)


def status(
    context: typer.Context,
    job: JobId,
    images: Annotated[
        bool, typer.Option("--images", help="Every image that is not done, and why it failed.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Say where a job stands. With --json and --images, every image."""
    with farm_of(context) as farm:
        now = farm.status(job)
        each = list(farm.images(job)) if images else []
    if json:
        facts: dict[str, Any] = job_facts(now)
        if images:
            facts["images"] = [{**asdict(image), "state": str(image.state)} for image in each]
        print_json(facts)
        return
    show_job(now)
    for image in each:
        if image.state is not ImageState.DONE:
            typer.echo(one_line(_image_line(image)))


def _image_line(image: ImageStatus) -> str:
    called = image.path or image.name
    text = f"image {image.index}{f' ({called})' if called else ''} {image.state}"
    return f"{text}: {image.reason}" if image.reason else text


def jobs(
    context: typer.Context,
    search: Annotated[
        str | None, typer.Argument(help="Only those with this in their name or id.", show_default=False)
    ] = None,
    state: Annotated[
        list[JobState] | None, typer.Option(help="Only those in this state; may be repeated.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only those of this model.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only those that this one submitted.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only those with this tag; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 20,
    json: AsJson = False,
) -> None:
    """List jobs, newest first.

    [bold]Example[/bold]

      img2img jobs summer --state running --state pending
      img2img jobs --owner alice --tag client=acme
    """
    with farm_of(context) as farm:
        found = farm.jobs(
            limit,
            search=search,
            states=state or (),
            model=model_of(model, elsewhere=True),
            owner=owner,
            tags=tag or (),
        )
    if json:
        print_json([job_facts(each) for each in found])
    else:
        show_jobs(found, "no such jobs" if search or state or model or owner or tag else "no jobs yet")


def cancel(context: typer.Context, job: JobId, json: AsJson = False) -> None:
    """End a job; finished images are kept."""
    with farm_of(context) as farm:
        count = farm.cancel(job)
    text = f"cancelled {count} image{'s' if count > 1 else ''}" if count else "it had ended already"
    show_facts({"job": job, "cancelled": count}, text, as_json=json)


def remove(
    context: typer.Context,
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="As submit has printed it.")],
    json: AsJson = False,
) -> None:
    """Forget jobs that have ended, with their results. The pictures that they were made from stay."""
    with farm_of(context) as farm:
        for job in jobs:
            count = farm.remove(job)
            text = f"{job} is removed: {count} object{'' if count == 1 else 's'} of the store"
            show_facts({"job": job, "removed": count}, text, as_json=json)


def pause(context: typer.Context, job: JobId, json: AsJson = False) -> None:
    """Start no further images of a job until it is resumed; running images finish."""
    with farm_of(context) as farm:
        changed = farm.pause(job)
    text = "paused" if changed else "nothing to pause: it is paused or has ended"
    show_facts({"job": job, "changed": changed}, text, as_json=json)


def resume(context: typer.Context, job: JobId, json: AsJson = False) -> None:
    """Continue a paused job."""
    with farm_of(context) as farm:
        changed = farm.resume(job)
        if changed:
            say_who_renders(context, farm, job)
    show_facts({"job": job, "changed": changed}, "resumed" if changed else "it was not paused", as_json=json)


def retry(context: typer.Context, job: JobId, json: AsJson = False) -> None:
    """Render the failed images of a job again."""
    with farm_of(context) as farm:
        count = farm.retry(job)
        if count:
            say_who_renders(context, farm, job)
    text = (
        f"{count} image{'s' if count > 1 else ''} to be tried again" if count else "no image of it has failed"
    )
    show_facts({"job": job, "retried": count}, text, as_json=json)


def priority(
    context: typer.Context,
    job: JobId,
    value: Annotated[int, typer.Argument(help="-100..100, higher goes first.", show_default=False)],
    json: AsJson = False,
) -> None:
    """Change the priority of a job."""
    with farm_of(context) as farm:
        changed = farm.set_priority(job, value)
    text = f"priority {value}" if changed else f"it had priority {value}"
    show_facts({"job": job, "priority": value, "changed": changed}, text, as_json=json)


def keep(
    context: typer.Context,
    job: JobId,
    duration: Annotated[str, typer.Argument(help="30d, 12h, ..., or forever.", show_default=False)],
    json: AsJson = False,
) -> None:
    """Change how long a job, its results and what it was made from stay after its end."""
    with farm_of(context) as farm:
        farm.set_keep(job, duration)
        until = farm.status(job).kept_until
    text = f"kept until {until.astimezone():%Y-%m-%d %H:%M}" if until else f"kept: {duration}"
    show_facts({"job": job, "keep": duration, "kept_until": until}, text, as_json=json)
