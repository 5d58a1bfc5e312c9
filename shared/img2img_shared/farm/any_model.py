"""Which model's workers make a picture that needs no checkpoint."""

from img2img_shared.errors import Refused
from img2img_shared.extras_report import networks_of, restorers_of
from img2img_shared.ledger import Ledger
from img2img_shared.ledger.file_names import FileNames
from img2img_shared.params import Params
from img2img_shared.pushed_models.model_index import ModelIndex
from img2img_shared.suggestions import unknown_name
from img2img_shared.upscaler_names import BUILT_IN


def model_with_upscalers(
    params: Params, ledger: Ledger, file_names: FileNames, pushed: ModelIndex
) -> str | None:
    """The model whose workers have, or can fetch, the upscalers, and have the least to do; None if no worker
    lives.

    Raises:
        Refused: no live worker has one of the upscalers.
        Unavailable: Redis does not answer.
    """
    wanted = {each for each in networks_of(params) if pushed.find("upscaler", each) is None}
    known: dict[str, list[str]] = {}
    restorers = {*restorers_of(params)}
    by_model: dict[str, list[str]] = {}
    for worker in ledger.workers():
        by_model.setdefault(worker.info.model, []).append(worker.info.id)
    for model, workers in by_model.items():
        known[model] = file_names.of(workers, "upscaler") or []
        if not restorers <= {*(file_names.of(workers, "face_restorer") or [])}:
            del known[model]
    if by_model and not known:
        first = min(restorers)
        raise Refused(
            f"{first.lower()}_visibility",
            getattr(params, f"{first.lower()}_visibility"),
            f"give 0: no worker has {first} and what finds faces for it",
        )
    having = [model for model, names in known.items() if wanted <= {*names}]
    if by_model and not having:
        names = sorted({name for names in known.values() for name in names}, key=str.lower)
        field = "upscaler_1" if params.upscaler_1 in wanted - {*names} else "upscaler_2"
        raise Refused(
            field,
            getattr(params, field),
            unknown_name("upscaler", getattr(params, field), [*BUILT_IN, *names]),
        )
    to_do = {each.model: each.waiting + each.running for each in ledger.demand()}
    return min(sorted(having), key=lambda model: to_do.get(model, 0), default=None)
