"""Which files of weights parameters name, beside checkpoints."""

from collections.abc import Iterable, Iterator, Mapping

from img2img_shared.control import find_name
from img2img_shared.extras_report import networks_of
from img2img_shared.params import Params
from img2img_shared.prompt_tags import strip_comments, take_extra_networks
from img2img_shared.pushed_models.pushed_model import ModelKind, PushedModel, find_pushed
from img2img_shared.upscaler_names import is_network

_UPSCALERS = ("upscaler_for_img2img", "hr_upscaler", "sd_upscale_upscaler")


def pinned_files(params: Params, known: Iterable[PushedModel]) -> dict[str, str]:
    """SHA-256 of each pushed file beside checkpoints that these parameters name, by `key_of` its name."""
    pushed = list(known)
    if not pushed:
        return {}
    found = {}
    for kind, name in _names_in(params):
        model = _control(name, pushed) if kind == "control" else find_pushed(name, kind, pushed)
        if model is not None:
            found[key_of(kind, name)] = model.sha256
    # a prompt says no more of these than their names, somewhere among its words
    prompts = (params.prompt, params.negative_prompt, params.hr_prompt, params.hr_negative_prompt)
    texts = "\n".join(prompts).lower()
    names = {each.name for each in pushed if each.kind == "embedding" and each.name.lower() in texts}
    for name in names:
        if (model := find_pushed(name, "embedding", pushed)) is not None:
            found[key_of("embedding", name)] = model.sha256
    return found


def names_of(params: Params, files: Mapping[str, str]) -> set[str]:
    """Of a job's `files` those that a render with these parameters may need, beside checkpoints."""
    named = {key_of(kind, name) for kind, name in _names_in(params)}
    return {each for each in files if each in named or each.startswith("embedding/")}


def key_of(kind: ModelKind, name: str) -> str:
    """What a job has a file under: its kind, and what the job calls it."""
    return f"{kind}/{name}"


def _names_in(params: Params) -> Iterator[tuple[ModelKind, str]]:
    if not params.disable_extra_networks:
        for prompt in (params.prompt, params.hr_prompt):
            tags = take_extra_networks(strip_comments(prompt, enabled=params.enable_prompt_comments))
            yield from (("lora", each.name) for each in tags.loras)
            yield from (("hypernetwork", each.name) for each in tags.hypernetworks)
    if params.vae not in ("Automatic", "None"):
        yield "vae", params.vae
    for unit in params.control:
        if unit.preprocessor.needs_network:
            yield "control", unit.model
    upscalers = [getattr(params, field) for field in _UPSCALERS]
    yield from (("upscaler", each) for each in (*upscalers, *networks_of(params)) if is_network(each))


def _control(wanted: str, known: Iterable[PushedModel]) -> PushedModel | None:
    """As A1111's extension finds networks: by a title, a name, or a part of one."""
    found = find_pushed(wanted, "control", known)
    if found is not None:
        return found
    own = [each for each in known if each.kind == "control"]
    name = find_name(wanted.partition(" [")[0], [each.name for each in own], {})
    return None if name is None else find_pushed(name, "control", own)
