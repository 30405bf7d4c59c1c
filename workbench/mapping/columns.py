"""Replies as values of columns: the JSON that is asked for, how it is read, and the type each column has."""

from __future__ import annotations

import json
import re
import types
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, create_model
from pydantic.errors import PydanticUserError

from workbench.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    Out = Mapping[str, Any] | type[BaseModel]
    """Columns and what each holds: a type, or the list of values it may have; or a pydantic model."""

FENCED = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
LARGEST = 2**63
DTYPES: dict[Any, str] = {bool: "boolean", int: "Int64", float: "Float64", str: "string"}


class NoFit(Exception):
    """A reply is not what was asked for; the message says in what, without its words."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column, under which attribute of the model its value is, and its type."""

    name: str
    attribute: str
    dtype: str
    categories: tuple[Any, ...] = ()


class Columns:
    """What each reply holds."""

    def __init__(self, out: Out) -> None:
        """Read what is wanted.

        Raises:
            InvalidRequest: it is no model and no dict of types, or no JSON can hold it.
        """
        try:
            self._model: type[BaseModel] = out if _is_model(out) else _model_of(out)  # type: ignore[assignment]
            self.schema: dict[str, Any] = self._model.model_json_schema()
        except (PydanticUserError, TypeError, NameError, SyntaxError) as error:
            raise InvalidRequest(f"out cannot be read as a schema: {str(error).splitlines()[0]}") from None
        fields = self._model.model_fields.items()
        self.columns = [
            _column(name if _is_model(out) else field.alias or name, name, field.annotation) for name, field in fields
        ]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def shortest(self) -> str:
        """About the shortest reply that fits."""
        return json.dumps(dict.fromkeys(self.names, 0))

    def read(self, text: str) -> list[Any]:
        """Return the values of a reply, in the order of the columns.

        Raises:
            NoFit: it is no JSON, or does not fit.
        """
        fenced = FENCED.match(text)
        try:
            read = self._model.model_validate_json(fenced[1] if fenced else text)
        except ValidationError as error:
            raise NoFit(_told(error)) from None
        except Exception as error:  # noqa: BLE001  # of a validator in the caller's own model
            raise NoFit(f"{type(error).__name__}: {error}") from None
        return [self._value(column, getattr(read, column.attribute)) for column in self.columns]

    @staticmethod
    def _value(column: Column, value: Any) -> Any:
        if isinstance(value, Enum):
            value = value.value
        if column.dtype == "Int64" and value is not None and not -LARGEST <= value < LARGEST:
            raise NoFit(f"{column.name}: a whole number of more than 64 bits")
        if isinstance(value, BaseModel):
            return value.model_dump()
        return whole(value) if isinstance(value, str) else value

    def arrays(self, rows: Sequence[Sequence[Any] | None]) -> dict[str, pd.api.extensions.ExtensionArray]:
        """Return the columns; what no reply fits is missing."""
        import pandas as pd

        arrays = {}
        for n, column in enumerate(self.columns):
            values = [None if row is None else row[n] for row in rows]
            dtype: Any = pd.CategoricalDtype(list(column.categories)) if column.categories else column.dtype
            arrays[column.name] = pd.Series(values, dtype=dtype).array
        return arrays


def whole(text: str) -> str:
    """Return a text without halves of letters, which Arrow would not take."""
    return text.encode(errors="replace").decode()


def _is_model(out: Any) -> bool:
    return isinstance(out, type) and issubclass(out, BaseModel) and not issubclass(out, RootModel)


def _model_of(out: Any) -> type[BaseModel]:
    if not isinstance(out, dict) or not out or not all(isinstance(name, str) and name for name in out):
        raise InvalidRequest(
            "out must be a dict of columns and what each holds, such as {'label': ['a', 'b'], 'score': float}, "
            f"or a pydantic model, not {out!r:.80}"
        )
    # numbered: a column may have a name that no attribute may have
    fields: dict[str, Any] = {
        f"f{n}": (_annotation(name, kind), Field(alias=name)) for n, (name, kind) in enumerate(out.items())
    }
    strict = ConfigDict(extra="forbid", allow_inf_nan=False, title="Row")
    return create_model("Row", __config__=strict, **fields)


def _annotation(name: str, kind: Any) -> Any:
    if not isinstance(kind, list | tuple):
        return kind
    if not kind or len(set(map(str, kind))) < len(kind) or not all(isinstance(value, str | int) for value in kind):
        raise InvalidRequest(
            f"out[{name!r}] must list different texts or whole numbers, at least one, not {kind!r:.80}"
        )
    return Literal[tuple(kind)]


def _column(name: str, attribute: str, annotation: Any) -> Column:
    kind = annotation
    while get_origin(kind) is Annotated or _optional(kind) is not None:
        kind = get_args(kind)[0] if get_origin(kind) is Annotated else _optional(kind)
    if get_origin(kind) is Literal:
        values = tuple(value for value in get_args(kind) if value is not None)
        return Column(name, attribute, "category", tuple(v.value if isinstance(v, Enum) else v for v in values))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return Column(name, attribute, "category", tuple(member.value for member in kind))
    return Column(name, attribute, DTYPES.get(kind, "object"))


def _optional(kind: Any) -> Any:
    """What a value is if it is not None; None where it cannot be None."""
    if get_origin(kind) not in (Union, types.UnionType):
        return None
    others = [each for each in get_args(kind) if each is not type(None)]
    return others[0] if len(others) == 1 else None


def _told(error: ValidationError) -> str:
    """The first thing that is wrong, without the reply's own words."""
    first, *others = error.errors(include_input=False, include_context=False, include_url=False)
    if first["type"] == "json_invalid":
        return "it is no JSON"
    where = ".".join(map(str, first["loc"])) or "the whole"
    if first["type"] == "extra_forbidden":
        return "it holds what nobody asked for"
    more = f", and {len(others)} more" if others else ""
    return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}{more}"
