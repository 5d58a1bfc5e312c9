"""The roles of the pictures that a render may use."""

import re
from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator

from img2img_shared.control import MOST_UNITS, control_roles, picture_roles
from img2img_shared.errors import Refused, Summary
from img2img_shared.params import Params

_ROLES = re.compile(r"image|mask|control/[0-9]((/[1-9])?(/mask)?|/region)")
#: for messages
ROLES = f"image, mask, or control/0 to control/{MOST_UNITS - 1}, each with /mask and /region of its own"


def check_role(role: str) -> str:
    """`role`, if it is a role.

    Raises:
        Refused: it is not.
    """
    if not is_role(role):
        raise Refused("pictures", role, f"give pictures by their roles: {ROLES}")
    return role


def is_role(text: str) -> bool:
    """Whether pictures can have this role."""
    return _ROLES.fullmatch(text) is not None


#: "image", what is repainted; "mask", where; "control/0", "control/1", ...: what the control unit of that
#: number looks at; "control/0/mask", what of that is to be repainted; "control/0/region", where it acts;
#: "control/0/1", "control/0/2", ...: what else it looks at, if it is an IP-Adapter's, each with its mask
Role = Annotated[str, AfterValidator(check_role)]


def check_roles(roles: Collection[str], params: Params) -> None:
    """Check that a render has the pictures it needs, and uses those it has.

    Raises:
        Refused: names the role.
    """
    if "image" not in roles and not params.txt2img:
        raise Refused("image", None, "give a picture, or set txt2img")
    if "mask" in roles and params.extras:
        raise Refused("mask", "a picture", "send none with extras, which look at the whole picture")
    if "mask" in roles and params.outpaint:
        raise Refused("mask", "a picture", "send none with outpaint, which has a mask of its own")
    known = {role for number in range(len(params.control)) for role in control_roles(number)}
    for number, unit in enumerate(params.control):
        several = [role for pair in picture_roles(number) for role in pair]
        if unit.preprocessor.is_image_prompt:
            known.update(several)
        elif further := sorted(set(several) & set(roles) - known):
            raise Refused(further[0], Summary("a picture"), "only IP-Adapters look at several; leave it out")
    for role in roles:
        if role.startswith("control/") and role not in known:
            raise Refused(
                role, Summary("a picture"), "no control unit of this number is asked for; leave it out"
            )
    for number in range(len(params.control)):
        own, _, _ = control_roles(number)
        if own not in roles and params.txt2img:
            raise Refused(own, None, "give a picture; txt2img has none that the unit could use instead")
        for picture, mask in picture_roles(number):
            for role, needed in ((mask, picture), (picture, own)):
                if role in roles and needed not in roles:
                    raise Refused(
                        role, Summary("a picture"), f"it needs {needed} beside it; give both or neither"
                    )
