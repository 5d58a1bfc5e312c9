"""Which files of weights parameters name, beside checkpoints."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from img2img_shared.control import find_name
from img2img_shared.hires import LATENT_UPSCALERS
from img2img_shared.params import Params
from img2img_shared.prompt_tags import strip_comments, take_extra_networks
from img2img_shared.pushed_models.pushed_model import ModelKind, PushedModel, find_pushed
from img2img_shared.upscaler_names import is_network


@dataclass(frozen=True, kw_only=True)
class NamedFile:
    """One that parameters name."""

    kind: ModelKind
    name: str
    #: the parameter that names it
    field: str
    #: as it stands there
    value: str

    def find(self, known: Iterable[PushedModel]) -> PushedModel | None:
        """The one of those in the store that is meant."""
        if self.kind == "control":
            return _control(self.name, known)
        return find_pushed(self.name, self.kind, known)


def pinned_files(params: Params, known: Iterable[PushedModel]) -> dict[str, str]:
    """SHA-256 of each pushed file beside checkpoints that these parameters name, by `key_of` its name."""
    pushed = list(known)
    if not pushed:
        return {}
    found = {}
    for each in named_files(params):
        if (model := each.find(pushed)) is not None:
            found[key_of(each.kind, each.name)] = model.sha256
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
    named = {key_of(each.kind, each.name) for each in named_files(params)}
    return {each for each in files if each in named or each.startswith("embedding/")}


def key_of(kind: ModelKind, name: str) -> str:
    """What a job has a file under: its kind, and what the job calls it."""
    return f"{kind}/{name}"


def named_files(params: Params) -> Iterator[NamedFile]:
    """Files beside checkpoints that a render with these parameters needs, but for textual inversions, which
    are words like others."""
    if not params.disable_extra_networks:
        for field in ("prompt", "hr_prompt") if params.enable_hr else ("prompt",):
            prompt = strip_comments(getattr(params, field), enabled=params.enable_prompt_comments)
            tags = take_extra_networks(prompt)
            yield from (_tagged("lora", "lora", each.name, field) for each in tags.loras)
            yield from (_tagged("hypernetwork", "hypernet", each.name, field) for each in tags.hypernetworks)
    if params.vae not in ("Automatic", "None"):
        yield NamedFile(kind="vae", name=params.vae, field="vae", value=params.vae)
    for number, unit in enumerate(params.control):
        if unit.preprocessor.needs_network and unit.model != "None":
            field = f"control.{number}.model"
            yield NamedFile(kind="control", name=unit.model, field=field, value=unit.model)
    for field in _upscaler_fields(params):
        name = getattr(params, field)
        if is_network(name) and name not in LATENT_UPSCALERS:
            yield NamedFile(kind="upscaler", name=name, field=field, value=name)


def _tagged(kind: ModelKind, tag: str, name: str, field: str) -> NamedFile:
    return NamedFile(kind=kind, name=name, field=field, value=f"<{tag}:{name}>")


def _upscaler_fields(params: Params) -> Iterator[str]:
    if params.extras:
        yield "upscaler_1"
        if params.upscaler_1 != "None" and params.extras_upscaler_2_visibility:
            yield "upscaler_2"
    elif params.txt2img:
        if params.enable_hr:
            yield "hr_upscaler"
    else:
        yield "upscaler_for_img2img"
        if params.sd_upscale:
            yield "sd_upscale_upscaler"


def _control(wanted: str, known: Iterable[PushedModel]) -> PushedModel | None:
    """As A1111's extension finds networks: by a title, a name, or a part of one."""
    found = find_pushed(wanted, "control", known)
    if found is not None:
        return found
    own = [each for each in known if each.kind == "control"]
    name = find_name(wanted.partition(" [")[0], [each.name for each in own], {})
    return None if name is None else find_pushed(name, "control", own)
