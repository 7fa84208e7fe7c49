"""What models have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
RUN_ID = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,127}$"
TASK_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
ROW_ID = r"^[0-9a-f]{32}$"

NameText = Annotated[str, StringConstraints(pattern=NAME)]
TaskId = Annotated[str, StringConstraints(pattern=TASK_ID)]
RunName = Annotated[str, StringConstraints(pattern=RUN_ID)]


class Sent(BaseModel):
    """What clients send: a name that is not known is an error, a number is no text."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class Shown(BaseModel):
    """What clients get."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
