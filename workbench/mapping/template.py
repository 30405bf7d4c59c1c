"""From the rows of a table to what is asked about each."""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.engine import check_question
from workbench.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    import pandas as pd

    Prompt = str | Callable[[pd.Series], str]
    """A text with columns in braces, or what makes one of a row."""

_CONVERSIONS: dict[str | None, Callable[[Any], Any]] = {None: lambda value: value, "s": str, "r": repr, "a": ascii}


class NoPrompt(NamedTuple):
    """Why there is nothing to ask about a row."""

    reason: str
    missing: bool = False
    """Whether it lacks a value, which is nobody's mistake."""


class Piece(NamedTuple):
    """A literal text, and the column whose value follows; None after the last one."""

    literal: str
    column: int | None = None
    convert: Callable[[Any], Any] = str
    spec: str = ""


def prompts_of(df: pd.DataFrame, prompt: Prompt) -> list[str | NoPrompt]:
    """Return what to ask about each row.

    Of a row that misses a value the template uses, nothing is asked: the model would be told ``nan``. Nor of one whose
    question is empty or no text: some such rows at the beginning must not look as if none could be asked.

    Raises:
        InvalidRequest: the template is none, or names a column that there is not; it can be made of no row.

    Example:
        >>> import pandas as pd
        >>> prompts_of(pd.DataFrame({"text": ["good", None], "n": [1, 2]}), "{n:02d}. {text}")
        ['01. good', NoPrompt(reason="column 'text' has no value here", missing=True)]
    """
    if callable(prompt):
        prompts = [_called(prompt, row) for row in _rows(df)]
    else:
        prompts = _filled(df, parsed(prompt, list(df.columns)))
    if len(set(prompts)) == 1 and isinstance(first := prompts[0], NoPrompt) and not first.missing:
        raise InvalidRequest(f"there is nothing to ask about any row: {first.reason}")
    return list(map(_sendable, prompts))


def parsed(template: str, columns: Sequence[Hashable]) -> list[Piece]:
    """Return the pieces of a template.

    Raises:
        InvalidRequest: it is not one.
    """
    if not isinstance(template, str):
        raise InvalidRequest(
            f"the prompt is of type {type(template).__name__}; it must be a text or a function of a row"
        )
    try:
        fields = list(Formatter().parse(template))
    except ValueError as error:
        raise InvalidRequest(f"the prompt cannot be read: {error}; write {{{{ and }}}} for braces") from None
    if all(field is None for _, field, _, _ in fields):
        raise InvalidRequest("the prompt names no column, so every row would be asked the same; write {column}")
    return [_piece(*field, columns) for field in fields]


def columns_read(template: str, columns: Sequence[Hashable]) -> set[Hashable]:
    """Return the columns a template reads."""
    return {columns[piece.column] for piece in parsed(template, columns) if piece.column is not None}


def _piece(
    literal: str, name: str | None, spec: str | None, conversion: str | None, columns: Sequence[Hashable]
) -> Piece:
    if name is None:
        return Piece(literal)
    if conversion not in _CONVERSIONS:
        raise InvalidRequest(f"{{{name}!{conversion}}} has a conversion that there is not; use !s, !r or !a")
    if "{" in (spec or ""):
        raise InvalidRequest(f"the format of {{{name}}} holds another column; write its width out")
    return Piece(literal, _place(name, columns), _CONVERSIONS[conversion], spec or "")


def _place(name: str, columns: Sequence[Hashable]) -> int:
    places = [n for n, column in enumerate(columns) if column == name] or [
        n for n, column in enumerate(columns) if str(column) == name
    ]
    if not places:
        have = ", ".join(map(str, columns))
        raise InvalidRequest(f"there is no column {name!r}, only: {have}; write {{{{ and }}}} for braces")
    if len(places) > 1:
        raise InvalidRequest(f"{len(places)} columns are called {name!r}; rename all but one")
    return places[0]


def _filled(df: pd.DataFrame, pieces: Sequence[Piece]) -> list[str | NoPrompt]:
    used = {piece.column for piece in pieces if piece.column is not None}
    values = {n: df.iloc[:, n].tolist() for n in used}
    missing = {n: df.iloc[:, n].isna().tolist() for n in used}

    def row(at: int) -> str | NoPrompt:
        parts = []
        for literal, column, convert, spec in pieces:
            parts.append(literal)
            if column is None:
                continue
            if missing[column][at]:
                return NoPrompt(f"column {str(df.columns[column])!r} has no value here", missing=True)
            try:
                parts.append(format(convert(values[column][at]), spec))
            except Exception as error:  # noqa: BLE001  # values of any type write themselves
                return NoPrompt(
                    f"column {str(df.columns[column])!r} cannot be written: {type(error).__name__}: {error}"
                )
        return "".join(parts)

    return [row(at) for at in range(len(df))]


def _sendable(prompt: str | NoPrompt) -> str | NoPrompt:
    if not isinstance(prompt, NoPrompt):
        try:
            check_question(prompt)
        except InvalidRequest as error:
            return NoPrompt(str(error))
    return prompt


def _rows(df: pd.DataFrame) -> list[pd.Series]:
    """The rows, each with its values as they are: ``iterrows`` makes floats of whole numbers."""
    import pandas as pd

    columns = [df.iloc[:, n].tolist() for n in range(df.shape[1])]
    rows = zip(*columns, strict=True) if columns else ((),) * len(df)
    return [
        pd.Series(list(row), index=df.columns, name=label, dtype=object)
        for label, row in zip(df.index, rows, strict=True)
    ]


def _called(prompt: Callable[[pd.Series], str], row: pd.Series) -> str | NoPrompt:
    try:
        text = prompt(row)
    except Exception as error:  # noqa: BLE001  # the caller's own code, and a matter of this row
        return NoPrompt(f"the prompt of this row cannot be made: {type(error).__name__}: {error}")
    return text if isinstance(text, str) else NoPrompt(f"the prompt of this row is of type {type(text).__name__}")
