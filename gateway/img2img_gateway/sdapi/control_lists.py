"""The lists for the menus of clients of A1111's ControlNet, as sd-webui-controlnet 1.1 has them."""

from typing import Any

from fastapi import APIRouter

from img2img_gateway.access import Caller
from img2img_gateway.dependencies import ServicesDep
from img2img_gateway.json_route import JsonRoute
from img2img_gateway.sdapi.control_units import MOST
from img2img_shared.control_modules import MODULES, Module, Slider

router = APIRouter(prefix="/controlnet", tags=["AUTOMATIC1111: ControlNet"], route_class=JsonRoute)

#: how names of networks call a kind of control, beside its own name
_CALLED: dict[str, tuple[str, ...]] = {
    "instructp2p": ("ip2p",),
    "segmentation": ("seg",),
    "normalmap": ("normal",),
    "t2i-adapter": ("t2i_adapter", "t2iadapter", "t2ia"),
    "ip-adapter": ("ip_adapter", "ipadapter"),
    "openpose": ("densepose",),
    "instant-id": ("instant_id", "instantid"),
    "scribble": ("sketch",),
    "tile": ("blur",),
}
#: kinds that networks of a union know
_OF_UNIONS = frozenset(
    (
        "openpose",
        "depth",
        "softedge",
        "scribble",
        "canny",
        "lineart",
        "mlsd",
        "normalmap",
        "segmentation",
        "inpaint",
        "tile",
    )
)


@router.get("/version", summary="See ControlNet's API version")
async def version() -> dict[str, int]:
    """The version of the API."""
    return {"version": 3}


@router.get("/settings", summary="See how many control units there are")
async def settings() -> dict[str, int]:
    """The number of units."""
    return {"control_net_unit_count": MOST}


@router.get("/model_list", summary="List the control networks")
async def model_list(services: ServicesDep, _: Caller, update: bool = True) -> dict[str, list[str]]:  # noqa: ARG001 (always)
    """The control networks in the workers' folders and in the store."""
    return {"model_list": await services.farm.listed_files("control")}


@router.get("/module_list", summary="List the preprocessors")
async def module_list(alias_names: bool = False) -> dict[str, Any]:
    """The preprocessors by their names, or by their labels on A1111's page."""
    named = {module.title if alias_names else module.name: module for module in MODULES.values()}
    return {
        "module_list": list(named),
        "module_detail": {
            name: {
                "model_free": not module.needs_network,
                "sliders": [_slider(each) for each in module.sliders],
            }
            for name, module in named.items()
        },
    }


@router.get("/control_types", summary="List the control types")
async def control_types(services: ServicesDep, _: Caller) -> dict[str, Any]:
    """The preprocessors and networks of each type of control."""
    titles = ["None", *(await services.farm.listed_files("control"))]
    every = [module.title for module in MODULES.values()]
    whole = {
        "module_list": every,
        "model_list": titles,
        "default_option": "none",
        "default_model": "None",
    }
    kinds = sorted({kind for module in MODULES.values() for kind in module.types})
    return {"control_types": {"All": whole, **{kind: _of_kind(kind, titles) for kind in kinds}}}


def _of_kind(kind: str, titles: list[str]) -> dict[str, Any]:
    modules = [module for module in MODULES.values() if module.name == "none" or kind in module.types]
    called = kind.lower()
    words = {called, *_CALLED.get(called, ()), *(("union",) if called in _OF_UNIONS else ())}
    networks = [title for title in titles if title == "None" or any(word in title.lower() for word in words)]
    # of version 1.1 rather than others
    better = [title for title in networks[1:] if "11" in title.partition("[")[0]]
    return {
        "module_list": [module.title for module in modules],
        "model_list": networks,
        "default_option": _default(modules).title,
        "default_model": (*better, *networks[1:], "None")[0],
    }


def _default(modules: list[Module]) -> Module:
    return modules[min(1, len(modules) - 1)]


def _slider(slider: Slider) -> dict[str, Any]:
    return {
        "name": slider.name,
        "value": slider.value,
        "min": slider.minimum,
        "max": slider.maximum,
        "step": slider.step,
    }
