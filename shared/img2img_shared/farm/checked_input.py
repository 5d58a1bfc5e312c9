"""The checks of an input before anything of it is stored."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import ValidationError

from img2img_shared.errors import Refused
from img2img_shared.job import Input
from img2img_shared.own_params import check_own
from img2img_shared.params import Params
from img2img_shared.prompt_tags import check_tags
from img2img_shared.refusals import joined, refusal
from img2img_shared.roles import check_role, check_roles


def checked_input(
    params: Params,
    *,
    roles: Collection[str],
    own: Mapping[str, Any],
    name: str | None = None,
    folder: str | None = None,
    path: str | None = None,
    check_files: Callable[[Params], None] = lambda _: None,
) -> Input:
    """An input of a job with these parameters, checked and complete except for its pictures.

    Args:
        roles: those of the pictures that it is rendered from, its own and the job's.
        own: the input's own parameters.
        path: the file's path on its user's machine.
        check_files: refuses parameters that name a file which nobody has.

    Raises:
        Refused: names a picture's role, a parameter, its name or its folder; several are joined.
    """
    wrong: list[Refused] = []
    checked, whole = dict[str, Any](), params
    try:
        checked, whole = check_own(params, own)
        prompts = {name: checked[name] for name in ("prompt", "hr_prompt") if name in checked}
        check_tags(comments=whole.enable_prompt_comments, **prompts)
        if checked:
            check_files(whole)
    except Refused as error:
        wrong.append(error)
    try:
        item = Input(params=checked, name=name, folder=folder, path=path)
    except ValidationError as error:
        wrong.append(refusal(error))
    except Refused as error:
        wrong.append(error)
    if wrong:
        raise joined(wrong)
    check_roles({check_role(role) for role in roles}, whole)
    return item
