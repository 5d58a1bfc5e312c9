"""Parameters of faces."""

from typing import Annotated

from pydantic import Field

from img2img_shared.face_restorers import FaceRestorer
from img2img_shared.param_groups.group import ParamGroup


class FaceParams(ParamGroup):
    """Faces that are restored once a picture is rendered."""

    restore_faces: Annotated[
        bool, Field(description="Find the faces of a rendered picture, and restore them.", examples=[True])
    ] = False
    face_restoration_model: Annotated[
        FaceRestorer, Field(description="What restores faces after a render.", examples=["GFPGAN"])
    ] = "CodeFormer"
    code_former_weight: Annotated[
        float,
        Field(
            title="CodeFormer weight",
            ge=0,
            le=1,
            description="How much of a face CodeFormer leaves as it is after a render; 0: most changes.",
            examples=[0.8],
        ),
    ] = 0.5
