"""What is told of a picture that was enlarged, and what it takes."""

from img2img_shared.infotext import quoted
from img2img_shared.params import Params
from img2img_shared.upscalers import is_network


def networks_of(params: Params) -> list[str]:
    """The upscalers' files that a picture of Extras needs."""
    first, second = params.upscaler_1, params.upscaler_2
    wanted = (first, second if params.extras_upscaler_2_visibility else "None")
    return [name for name in wanted if first != "None" and is_network(name)]


def told(params: Params) -> str:
    """A1111's account of it, as in ``html_info`` and in the text "postprocessing" of a PNG."""
    if params.upscaler_1 == "None":
        return ""
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
    return ", ".join(f"{name}: {quoted(value)}" for name, value in pairs.items())
