"""What Extras need for a picture, and A1111's account of what they did."""

from img2img_shared.infotext_parser import quoted
from img2img_shared.params import Params
from img2img_shared.upscaler_names import is_network


def networks_of(params: Params) -> list[str]:
    """The upscalers' files that Extras need."""
    first, second = params.upscaler_1, params.upscaler_2
    wanted = (first, second if params.extras_upscaler_2_visibility else "None")
    return [name for name in wanted if first != "None" and is_network(name)]


def restorers_of(params: Params) -> list[str]:
    """The face restorers that a picture needs."""
    if not params.extras:
        return [params.face_restoration_model] if params.restore_faces else []
    visible = {"GFPGAN": params.gfpgan_visibility, "CodeFormer": params.codeformer_visibility}
    return [name for name, opacity in visible.items() if opacity]


def extras_infotext(params: Params) -> str:
    """A1111's account of what Extras did, as in ``html_info`` and a PNG's text "postprocessing"."""
    pairs = _of_upscalers(params) if params.upscaler_1 != "None" else {}
    if params.gfpgan_visibility:
        pairs["GFPGAN visibility"] = round(params.gfpgan_visibility, 3)
    if params.codeformer_visibility:
        pairs["CodeFormer visibility"] = round(params.codeformer_visibility, 3)
        pairs["CodeFormer weight"] = round(params.codeformer_weight, 3)
    return ", ".join(f"{name}: {quoted(value)}" for name, value in pairs.items())


def _of_upscalers(params: Params) -> dict[str, object]:
    size = f"{params.upscaling_resize_w}x{params.upscaling_resize_h}"
    if params.upscaling_resize_w:
        pairs: dict[str, object] = {"Postprocess upscale to": size}
        if params.upscaling_crop:
            pairs["Postprocess crop to"] = size
    else:
        pairs = {"Postprocess upscale by": params.upscaling_resize}
    pairs["Postprocess upscaler"] = params.upscaler_1
    if params.upscaler_2 != "None" and params.extras_upscaler_2_visibility:
        pairs["Postprocess upscaler 2"] = params.upscaler_2
    return pairs
