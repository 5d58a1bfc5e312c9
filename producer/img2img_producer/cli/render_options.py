"""Options of the commands that send pictures and bring pictures, each declared once for all of them."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.", show_default=False)]
ParamsFile = Annotated[
    Path | None, typer.Option("--params", help="JSON file of parameters; options override it.")
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="WxH",
        help="Exact size of the results; by default each picture's own, within what the model was made for.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(help="Checkpoint: NAME, FOLDER or FILE.safetensors; by default the one that is served."),
]
Name = Annotated[str | None, typer.Option(help="For the job, to find it by: see img2img jobs.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="For the job, to find it by; may be repeated.")]
Keep = Annotated[
    str | None,
    typer.Option(
        help="How long its results stay in the store after its end: 30d, 12h, forever [IMG2IMG_KEEP]."
    ),
]
Priority = Annotated[int, typer.Option(help="-100..100, higher goes first.")]
Key = Annotated[
    str | None, typer.Option("--idempotency-key", help="A repeat with the same key is the first job again.")
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Overwrite other files in the folder; inputs are never overwritten."),
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Its id.", show_default=False)]
