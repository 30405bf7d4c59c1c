"""Names of prompts and labels, references to versions, and the variables in a text. Pure."""

from __future__ import annotations

import hashlib
import re
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple, Self

from workbench.errors import InvalidRequest, PromptError
from workbench.turns import NOT_TEXT, is_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
"""Of prompts and of labels."""
PRODUCTION = "production"
"""The label that is meant when none is named."""
LATEST = "latest"
"""The newest version, whichever that is: found out anew every time, and moved by nobody."""
EFFORTS = ("low", "medium", "high", "xhigh", "max")
LONGEST_TEXT = 1_000_000
LONGEST_NOTE = 2_000
MOST_BITS = 2_000
"""Of an integer given for a variable; Python itself refuses to write much larger ones."""
MOST_VERSIONS = 2**31 - 1
"""What the column holds: of more there is none either."""

_NAME = re.compile(NAME_PATTERN)
_VERSION = re.compile(r"v?(\d{1,64})", re.ASCII)
_VARIABLE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}", re.ASCII)


class Reference(NamedTuple):
    """Which version of a prompt is meant: by its number, or by a label."""

    name: str
    label: str | None = PRODUCTION
    version: int | None = None

    @classmethod
    def parse(cls, reference: str) -> Self:
        """Return what a reference means.

        Raises:
            PromptError: it cannot be the name of anything.

        Example:
            >>> Reference.parse("support"), Reference.parse("support@v3")
            (Reference(name='support', label='production', version=None), Reference(name='support', label=None, version=3))
        """
        if not isinstance(reference, str):
            raise PromptError(f"a prompt is named by a text, not by a value of type {type(reference).__name__}")
        name, at, which = reference.partition("@")
        check_name(name)
        if not at:
            return cls(name)
        if number := _VERSION.fullmatch(which):
            return cls(name, None, min(int(number[1]), MOST_VERSIONS))
        check_label(which)
        return cls(name, which)

    def __str__(self) -> str:
        return f"{self.name}@{self.label or self.version}"


def check_name(name: str) -> None:
    """Raise PromptError unless a prompt may be called so."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PromptError(
            f"a prompt cannot be called {_short(name)}; use 1 to 64 letters, digits or _ . - and begin with a letter or "
            "digit. Name it like support, support@staging or support@3"
        )


def check_label(label: str) -> None:
    """Raise PromptError unless a label may be called so."""
    if not isinstance(label, str) or not _NAME.fullmatch(label) or _VERSION.fullmatch(label):
        raise PromptError(
            f"a label cannot be called {_short(label)}; use 1 to 64 letters, digits or _ . - that do not look like the "
            "number of a version, such as production or staging"
        )


def version_number(version: int | str) -> int:
    """Return the number of a version, given as 3, '3' or 'v3'."""
    if isinstance(version, Integral) and not isinstance(version, bool):  # one out of a frame is NumPy's
        version = max(-1, min(int(version), MOST_VERSIONS))  # Python refuses to write one of thousands of digits
    found = _VERSION.fullmatch(str(version)) if isinstance(version, str | int) else None
    if found is None:
        raise PromptError(f"{_short(version)} is no version; give its number, such as 3")
    return min(int(found[1]), MOST_VERSIONS)


def check_text(text: str) -> None:
    """Raise PromptError unless a text can be a version."""
    if not isinstance(text, str):
        raise PromptError(f"the prompt is of type {type(text).__name__}; it must be a text")
    if not text.strip():
        raise PromptError("the prompt is empty; write what the model is to be told")
    if len(text) > LONGEST_TEXT:
        raise PromptError(f"the prompt has {len(text):,} characters, more than {LONGEST_TEXT:,}; shorten it")
    if not is_text(text):
        raise PromptError(f"the prompt {NOT_TEXT}")


def check_note(note: str | None) -> None:
    """Raise PromptError unless a note can be kept."""
    if note is None:
        return
    if not isinstance(note, str) or not is_text(note):
        raise PromptError(f"the note {NOT_TEXT}" if isinstance(note, str) else "the note must be a text")
    if len(note) > LONGEST_NOTE:
        raise PromptError(f"the note has {len(note):,} characters, more than {LONGEST_NOTE:,}; shorten it")


def check_effort(effort: str | None) -> None:
    """Raise PromptError unless a model can be asked for this effort."""
    if effort is not None and effort not in EFFORTS:
        raise PromptError(f"there is no effort {_short(effort)}; use {', '.join(EFFORTS)}, or none for the model's own")


def digest(text: str, model: str | None, effort: str | None) -> str:
    """Return the SHA-256 of all that makes a version what it is.

    >>> digest("Hi", None, None) == digest("Hi", "", "")
    True
    """
    return hashlib.sha256("\0".join((text, model or "", effort or "")).encode()).hexdigest()


def variables_of(text: str) -> tuple[str, ...]:
    """Return the variables of a text, each once, in the order in which they come.

    >>> variables_of("Help {{customer}} with {{ product }}, {{customer}}. {{2 + 2}}")
    ('customer', 'product')
    """
    return tuple(dict.fromkeys(_VARIABLE.findall(text)))


def render(text: str, values: Mapping[str, object], name: str) -> str:
    """Return a text with its variables filled in. Values are taken as they are: braces in them mean nothing.

    Raises:
        PromptError: values are missing, or for variables that there are not, or are no texts, or are too long.

    Example:
        >>> render("Help {{customer}}.", {"customer": "{{ada}}"}, "support@1")
        'Help {{ada}}.'
    """
    filled = checked(variables_of(text), values, name)
    # counted first: a short text may name a long value many thousand times
    length = len(_VARIABLE.sub("", text)) + sum(len(filled[variable]) for variable in _VARIABLE.findall(text))
    if length > LONGEST_TEXT:
        raise PromptError(
            f"the prompt {name} has {length:,} characters with these values, more than {LONGEST_TEXT:,}; give shorter ones"
        )
    return _VARIABLE.sub(lambda found: filled[found[1]], text)


def checked(variables: Sequence[str], values: Mapping[str, object], name: str) -> dict[str, str]:
    """Return the values as texts, one for each of the variables."""
    given = as_texts(values)
    missing = [variable for variable in variables if variable not in given]
    unknown = [variable for variable in given if variable not in variables]
    if missing or unknown:
        parts = [f"is missing {_listed(missing)}"] if missing else []
        parts += [f"does not know {_listed(unknown)}"] if unknown else []
        has = f"its variables are {_listed(variables)}" if variables else "it has no variables"
        raise PromptError(f"the prompt {name} {' and '.join(parts)}; {has}")
    return given


def as_texts(values: Mapping[str, object]) -> dict[str, str]:
    """Return the values of variables as texts.

    Raises:
        PromptError: they are no mapping, or one of them cannot be written.
    """
    try:
        items = dict(values)
    except (TypeError, ValueError):
        raise PromptError('variables must be names with their values, such as {"customer": "Ada"}') from None
    for variable, value in items.items():
        if not isinstance(value, str | int | float):
            raise PromptError(f"the variable {variable!r} is of type {type(value).__name__}; it must be a text")
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise PromptError(f"the variable {variable!r} is a number of thousands of digits; give it as a text")
        if not is_text(str(value)):
            raise PromptError(f"the variable {variable!r} {NOT_TEXT}")
    return {str(variable): str(value) for variable, value in items.items()}


def values_of(pairs: Sequence[str]) -> dict[str, str]:
    """Return the values that ``NAME=VALUE`` texts say.

    >>> values_of(["customer=Ada", "sum=1+1=2"])
    {'customer': 'Ada', 'sum': '1+1=2'}
    """
    parts = [pair.partition("=") for pair in pairs]
    if wrong := [name for name, equals, _ in parts if not equals]:
        raise InvalidRequest(f"a variable is given as NAME=VALUE, not {_short(wrong[0])}")
    return {name: value for name, _, value in parts}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(_short(name) for name in names)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 70 else f"{shown[:67]}…"
