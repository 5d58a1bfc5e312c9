"""The base of the groups of parameters."""

from pydantic import BaseModel, ConfigDict


class ParamGroup(BaseModel):
    """Parameters that belong together; each has a range, a description and an example."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
