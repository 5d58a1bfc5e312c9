"""The scripts that a request may name to take it over (`script_name`)."""

from typing import Any

from img2img_gateway.sdapi.leniency import Leniency
from img2img_gateway.sdapi.request import RenderRequest, Txt2ImgRequest
from img2img_gateway.sdapi.scripts.loopback import Loopback
from img2img_gateway.sdapi.scripts.outpainting_mk2 import OutpaintingMk2
from img2img_gateway.sdapi.scripts.poor_mans_outpainting import PoorMansOutpainting
from img2img_gateway.sdapi.scripts.prompt_matrix import PromptMatrix
from img2img_gateway.sdapi.scripts.prompts_from_file import PromptsFromFile
from img2img_gateway.sdapi.scripts.script import Run, Script, check_count
from img2img_gateway.sdapi.scripts.sd_upscale import SdUpscale
from img2img_gateway.sdapi.scripts.xyz_plot import XyzPlot
from img2img_shared.errors import Refused

#: as A1111 lists them
_SCRIPTS: tuple[type[Script], ...] = (
    Loopback,
    OutpaintingMk2,
    PoorMansOutpainting,
    PromptMatrix,
    PromptsFromFile,
    SdUpscale,
    XyzPlot,
)


def scripts_of(*, img2img: bool) -> list[type[Script]]:
    """The scripts of one of the two routes."""
    return [script for script in _SCRIPTS if img2img or script.of_txt2img]


def check_name(request: RenderRequest) -> type[Script] | None:
    """The script that a request names, or None.

    Raises:
        Refused: there is no such script; in A1111's words.
    """
    name = request.script_name
    if not name or name.lower() == "none":
        return None
    known = {script.title: script for script in scripts_of(img2img=not isinstance(request, Txt2ImgRequest))}
    if name.lower() not in known:
        why = f"Script '{name}' not found; send one of {', '.join(known)}, or no script_name"
        raise Refused("script_name", name, why)
    return known[name.lower()]


def script_run(request: RenderRequest, lenient: Leniency) -> Run | None:
    """The renders of a request's script, or None if it names none.

    Raises:
        Refused: there is no such script; or names an argument, or a field.
    """
    script = check_name(request)
    if script is None:
        return None
    run = script.read(request.script_args, lenient).run(request, lenient)
    check_count(run.count, "script_args")
    return run


def script_infos(*, img2img: bool) -> list[dict[str, Any]]:
    """The scripts of one of the two routes, with their arguments, as A1111 lists them."""
    return [script.info(img2img=img2img) for script in scripts_of(img2img=img2img)]
