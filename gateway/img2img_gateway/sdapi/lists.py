"""The lists with which A1111's clients fill their menus. They are empty for what a farm does not have."""

import resource
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.pictures import decode_picture
from img2img_gateway.sdapi.control_units import SCRIPT, control_info
from img2img_gateway.sdapi.option_table import defaults
from img2img_gateway.sdapi.read_infotext import read_parameters
from img2img_gateway.sdapi.scripts.always_on import script_info
from img2img_gateway.sdapi.scripts.selectable import script_infos, scripts_of
from img2img_gateway.sdapi.styles import read_styles
from img2img_gateway.sdapi.tenant_options import Options
from img2img_shared.checkpoints import with_hashes
from img2img_shared.hires import LATENT_UPSCALERS
from img2img_shared.ledger.inversion_names import InversionInfo
from img2img_shared.picture_texts import read_texts
from img2img_shared.samplers import SAMPLERS, SCHEDULERS, Sampler
from img2img_shared.upscaler_names import BUILT_IN

router = APIRouter(prefix="/sdapi/v1", tags=["AUTOMATIC1111: lists"], route_class=JsonRoute)


class PngInfoRequest(BaseModel):
    """``POST /sdapi/v1/png-info``."""

    image: str


class PngInfoResponse(BaseModel):
    """A picture's infotext."""

    info: str
    #: the file's other texts
    items: dict[str, str]
    #: the infotext's names and values, and what it means by those that it leaves out
    parameters: dict[str, Any]


@router.get("/samplers", summary="List A1111's samplers")
async def samplers() -> list[dict[str, Any]]:
    """The samplers, by A1111's names."""
    return [
        {"name": name, "aliases": list(sampler.aliases), "options": _options(sampler)}
        for name, sampler in SAMPLERS.items()
    ]


@router.get("/schedulers", summary="List A1111's schedulers")
async def schedulers() -> list[dict[str, Any]]:
    """The schedules, by A1111's names."""
    by_model = ("Uniform", "SGM Uniform", "Simple", "Normal", "DDIM", "Beta")
    return [
        {
            "name": scheduler.name,
            "label": label,
            "aliases": list(scheduler.aliases) or None,
            "default_rho": -1.0 if scheduler.default_rho is None else scheduler.default_rho,
            "need_inner_model": label in by_model,
        }
        for label, scheduler in SCHEDULERS.items()
    ]


@router.get("/sd-models", summary="List the checkpoints")
async def sd_models(services: ServicesDep, _: Caller) -> list[dict[str, Any]]:
    """The checkpoints that are served, or could be on this machine, by their files' names as in A1111.

    Which of them a worker has loaded makes no difference: a client's menu stays as it is.
    """
    checkpoints = await services.farm.call(with_hashes, await services.farm.checkpoints())
    checkpoints = sorted(checkpoints, key=lambda each: each.file_name.casefold())
    return [
        {
            "title": each.title,
            "model_name": each.name,
            "hash": each.short_hash,
            "sha256": each.sha256,
            "filename": str(each.path or each.model),
            "config": None,
        }
        for each in checkpoints
    ]


@router.get("/loras", summary="List the LoRAs")
async def loras(services: ServicesDep, _: Caller) -> list[dict[str, Any]]:
    """The LoRAs in the workers' folders and in the store; the gateway knows only their names."""
    pushed = {name: name for name in await services.farm.pushed_names("lora")}
    found = pushed | (await services.farm.loras() or {})
    return [{"name": name, "alias": alias, "path": name, "metadata": {}} for name, alias in found.items()]


@router.get("/prompt-styles", summary="List the styles")
async def prompt_styles(services: ServicesDep) -> list[dict[str, str]]:
    """The styles in the gateway's styles file."""
    styles = await services.farm.call(read_styles, services.farm.settings.styles_file)
    return [
        {"name": style.name, "prompt": style.prompt, "negative_prompt": style.negative_prompt}
        for style in styles.values()
    ]


@router.get("/upscalers", summary="List the upscalers")
async def upscalers(services: ServicesDep, _: Caller) -> list[dict[str, Any]]:
    """The upscalers: the built-in ones, and the files that a worker can use.

    As in A1111, files have no scale of their own.
    """
    files = sorted(await services.farm.listed_files("upscaler"), key=str.lower)
    return [
        {
            "name": name,
            "model_name": None,
            "model_path": name if name in files else None,
            "model_url": None,
            "scale": 4,
        }
        for name in (*BUILT_IN, *files)
    ]


@router.get("/latent-upscale-modes", summary="List the latent upscalers")
async def latent_upscale_modes() -> list[dict[str, str]]:
    """The latent upscalers of the hires fix."""
    return [{"name": name} for name in LATENT_UPSCALERS]


@router.get("/sd-modules", summary="List Forge's modules")  # Forge's
@router.get("/realesrgan-models", summary="List the RealESRGAN models")
@router.get("/extensions", summary="List the extensions")
async def nothing() -> list[dict[str, Any]]:
    """An empty list."""
    return []


@router.get("/sd-vae", summary="List the VAEs")
async def sd_vae(services: ServicesDep, _: Caller) -> list[dict[str, str]]:
    """The VAEs in the workers' folders and in the store; the gateway knows only their names."""
    return [{"model_name": name, "filename": name} for name in await services.farm.listed_files("vae")]


@router.get("/hypernetworks", summary="List the hypernetworks")
async def hypernetworks(services: ServicesDep, _: Caller) -> list[dict[str, str]]:
    """The hypernetworks in the workers' folders and in the store; the gateway knows only their names."""
    return [{"name": name, "path": name} for name in await services.farm.listed_files("hypernetwork")]


@router.get("/face-restorers", summary="List the face restorers")
async def face_restorers(services: ServicesDep, _: Caller) -> list[dict[str, Any]]:
    """The face restorers that a worker can use."""
    return [{"name": name, "cmd_dir": None} for name in await services.farm.files("face_restorer") or []]


@router.get("/embeddings", summary="List the textual inversions")
async def embeddings(services: ServicesDep, _: Caller) -> dict[str, dict[str, dict[str, Any]]]:
    """The textual inversions that prompts may name, and those that no worker's checkpoint can use."""
    answer: dict[str, dict[str, dict[str, Any]]] = {"loaded": {}, "skipped": {}}
    # of those in the store a worker tells what is in them; until one has, their names are known
    pushed = {name: InversionInfo() for name in await services.farm.pushed_names("embedding")}
    for name, info in (pushed | await services.farm.inversions()).items():
        about: dict[str, Any] = {"step": info.step, "sd_checkpoint": None, "sd_checkpoint_name": None}
        about |= {"shape": info.shape, "vectors": info.vectors}
        if info.reason is None:
            answer["loaded"][name] = about
        else:
            answer["skipped"][name] = about | {"reason": info.reason}
    return answer


@router.get("/scripts", summary="List the scripts")
async def scripts() -> dict[str, list[str]]:
    """The scripts that a request may use; any other is refused."""
    own = [script["name"] for script in script_info()]
    of_txt2img, of_img2img = ([each.title for each in scripts_of(img2img=i)] for i in (False, True))
    return {"txt2img": [*of_txt2img, SCRIPT], "img2img": [*of_img2img, *own, SCRIPT]}


@router.get("/script-info", summary="List the scripts with their arguments")
async def scripts_with_arguments() -> list[dict[str, Any]]:
    """The same scripts with their arguments."""
    of_txt2img, of_img2img = (script_infos(img2img=i) for i in (False, True))
    return [
        *(*of_txt2img, control_info(img2img=False)),
        *(*of_img2img, *script_info(), control_info(img2img=True)),
    ]


@router.get("/cmd-flags", summary="See the command line's flags")
async def cmd_flags(services: ServicesDep) -> dict[str, Any]:
    """The options of A1111's command line that have a counterpart here, without passwords."""
    settings = services.farm.settings
    return {
        "api": True,
        "nowebui": True,
        "listen": not settings.is_local,
        "port": settings.port,
        "server_name": settings.host,
        "cors_allow_origins": ",".join(settings.cors_origins) or None,
        "api_auth": None,
        "styles_file": [str(settings.styles_file)] if settings.styles_file else [],
    }


@router.get("/memory", summary="See the gateway's memory")
async def memory() -> dict[str, Any]:
    """The gateway's own memory; it does not know that of the workers' GPUs."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(facts[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return {"ram": {"free": free, "used": used, "total": total}, "cuda": {"error": "unavailable"}}


@router.post("/png-info", summary="Read a picture's infotext")
async def png_info(body: PngInfoRequest, services: ServicesDep, caller: Caller) -> PngInfoResponse:
    """Read a picture's infotext, from PNG, JPEG or WebP; `info` is empty if there is none."""
    data = await services.farm.call(
        decode_picture, body.image.strip(), "image", services.farm.settings.max_upload
    )
    texts = await services.farm.call(read_texts, data)
    info = texts.pop("parameters", "")
    styles = await services.farm.call(read_styles, services.farm.settings.styles_file)
    options = {**defaults(), **await Options(services.farm, caller.tenant).chosen()}
    told = read_parameters(info, styles, options["infotext_styles"])
    return PngInfoResponse(info=info, items=texts, parameters=told)


@router.get("/version", summary="See the program's version")
async def program_version() -> dict[str, str]:
    """The program's name and version, in SD.Next's format."""
    return {"app": "img2img-farm", "version": version("img2img-farm")}


def _options(sampler: Sampler) -> dict[str, str]:
    """The options of a sampler as A1111 lists them, with switches as texts."""
    switches = ("discard_next_to_last_sigma", "uses_ensd", "second_order", "brownian_noise")
    found = {} if sampler.scheduler is None else {"scheduler": SCHEDULERS[sampler.scheduler].name}
    found |= {name: "True" for name in switches if getattr(sampler, name)}
    return found if sampler.solver_type is None else {**found, "solver_type": sampler.solver_type}
