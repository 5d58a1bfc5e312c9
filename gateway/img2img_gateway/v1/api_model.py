"""The base of what our own API takes and answers."""

from pydantic import BaseModel, ConfigDict


class ApiModel(BaseModel):
    """A model whose fields are described in the reference by the docstrings below them."""

    model_config = ConfigDict(use_attribute_docstrings=True)
