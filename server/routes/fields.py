"""Fields that requests of several routes have."""

from typing import Annotated

from pydantic import Field

from workbench.prompts.text import LONGEST_NOTE

NO_NUL = r"^[^\u0000]*$"
NOT_BLANK = r"^[^\u0000]*[^\u0000\s][^\u0000]*$"
LABEL_PATTERN = r"^(?!(v?[0-9]+|latest)$)[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
Note = Annotated[str | None, Field(max_length=LONGEST_NOTE, json_schema_extra={"pattern": NO_NUL})]


def whole(value: object) -> object:
    """JSON has one kind of number, and its schema language one kind of integer: some clients write 3 as 3.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
