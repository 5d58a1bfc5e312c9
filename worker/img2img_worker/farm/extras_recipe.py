"""The recipe of A1111's Extras: a picture is processed without any render."""

from img2img_shared.extras_report import extras_infotext
from img2img_shared.params import Params
from img2img_shared.picture_texts import read_texts
from img2img_worker.pictures.decode import Decoder
from img2img_worker.pictures.extras_picture import RestoreFaces, postprocess
from img2img_worker.pictures.picture_file import encode_picture
from img2img_worker.pictures.upscale import RunNetwork


def postprocess_file(
    data: bytes, params: Params, decoder: Decoder, run: RunNetwork, restore: RestoreFaces
) -> bytes:
    """Postprocess a picture's file as A1111's Extras do, keeping its texts, of which only a PNG has several.

    Args:
        run: runs an upscaler's network.
        restore: restores faces.

    Raises:
        Refused: names the field.
    """
    with decoder.decoded(data, None) as (picture, _):
        result = postprocess(picture, params, run, restore)
    texts = read_texts(data)
    infotext = texts.pop("parameters", "")
    if account := extras_infotext(params):
        texts["postprocessing"] = account
    return encode_picture(result, params.output_format, infotext, params.quality, texts=texts)
