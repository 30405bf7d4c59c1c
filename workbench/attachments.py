"""Values of a notebook as text that a model can read: whole when they are small, else summarised, and said to be.

Nothing here runs code of whoever made a value: an object of a type that is not known is shown by the name of its type.
A value may change while it is looked at, for its notebook goes on; what fails then is an error of that attachment.
"""

from __future__ import annotations

import re
import sys
from base64 import b64decode, b64encode
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from workbench.errors import InvalidRequest
from workbench.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import pandas as pd
    from PIL import Image

    from workbench.turns import Block

LONGEST = 20_000
"""Characters of one attachment."""
WHOLE_ROWS, WHOLE_COLUMNS, HEAD_ROWS, SHOWN_COLUMNS = 20, 20, 5, 50
LOOKED_AT = 100_000
"""Rows of which statistics are made; of more rows, so many spread over all."""
COUNTED_VALUES = 50_000_000
"""A table with more values has its missing values counted in those rows too."""
LONGEST_CELL, MOST_ITEMS, DEEPEST = 200, 100, 4

COLLECTIONS: tuple[Any, ...] = (dict, list, tuple, set, frozenset)
KINDS = (
    ("pandas", "DataFrame", "DataFrame"),
    ("pandas", "Series", "Series"),
    ("numpy", "ndarray", "array"),
    ("matplotlib.figure", "Figure", "Figure"),
    ("PIL.Image", "Image", "picture"),
)
"""Module and name of a type, and what people call its values."""
LONGEST_SIDE = 1568
"""Pixels; larger pictures would be made smaller by the upstream too."""
LARGEST_PNG = 1_000_000
"""Bytes; a larger one is a photograph, and goes as JPEG."""
PIXELS_PER_TOKEN = 750

TRUSTED = ("builtins", "datetime", "decimal", "fractions", "uuid", "pathlib", "numpy", "pandas")
"""Modules of types that are written as they write themselves."""

MISBEHAVED = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError)
"""What tables of unusual types raise when they lack something."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """What is sent of a value: ``summary`` is one line on what that is, and begins the ``text``."""

    name: str
    kind: str
    summary: str
    text: str
    image: Block | None = None
    """The content block of a picture, sent after the text that names it."""

    @property
    def block(self) -> Block:
        """The text block that is sent."""
        return {"type": "text", "text": f'<attachment name="{self.name}">\n{self.text}\n</attachment>'}

    @property
    def blocks(self) -> list[Block]:
        """All that is sent."""
        return [self.block] if self.image is None else [self.block, self.image]


def kind_of(value: object) -> str | None:
    """Return what people call a value that can be attached; None for all others.

    >>> kind_of({"a": 1}), kind_of(len)
    ('dict', None)
    """
    for module, name, kind in KINDS:
        known = getattr(sys.modules.get(module), name, None)  # a value of it is there only if it was imported
        if isinstance(known, type) and issubclass(type(value), known):
            return kind
    if type(value) is bytes:
        return "picture" if value.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) else None
    return next((kind.__name__ for kind in (str, dict, list) if issubclass(type(value), kind)), None)


def attachable(namespace: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """Return name, kind and size of the variables that can be attached, in the order of their names."""
    for name in sorted(filter(_is_public, _names(namespace)), key=str.lower):
        value = namespace.get(name)
        if kind := kind_of(value):
            yield name, kind, _size(kind, value)


def attach(name: str, value: object) -> Attachment:
    """Return what is sent of a value.

    Raises:
        InvalidRequest: it is of no kind that can be attached, or could not be read.

    Example:
        >>> attach("limits", {"low": 1, "high": 9}).summary
        'limits: dict of 2 items'
    """
    kind = kind_of(value)
    if kind is None:
        raise InvalidRequest(f"{name} is of type {type(value).__name__}, which cannot be attached")
    try:
        if kind in ("Figure", "picture"):
            return _picture(name, kind, value)
        summary, body = _DESCRIBE[kind](name, value)
    except Exception as error:  # whatever a broken, or meanwhile changed, value raises
        raise InvalidRequest(f"{name} could not be read ({type(error).__name__}); attach a copy of it") from error
    return Attachment(name, kind, clean(summary), clean(_cut(f"{summary}\n{body}", LONGEST)))


_ATTACHED = re.compile(r'<attachment name="[^"]*">\n(.*)\n')


def summaries(blocks: Sequence[Block]) -> list[str]:
    """Return the first lines of the attachments among the blocks of a question.

    >>> summaries([attach("n", [1, 2]).block, {"type": "text", "text": "why?"}])
    ['n: list of 2 items']
    """
    found = (_ATTACHED.match(str(block.get("text", ""))) for block in blocks[:-1])
    return [match[1] for match in found if match]


def clean(text: str) -> str:
    """Return a text without what cannot be sent: NUL and halves of surrogate pairs."""
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()


def _names(namespace: Mapping[str, object]) -> list[str]:
    return [name for name in list(namespace) if isinstance(name, str)]  # a copy: a running cell may add to it


def _is_public(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_")


def _size(kind: str, value: Any) -> str:
    try:
        if kind == "DataFrame":
            return f"{len(value):,} × {len(value.columns):,}"
        if kind == "Figure":
            return " × ".join(f"{side:g}" for side in value.get_size_inches()) + " inches"
        if kind == "picture":
            return f"{len(value):,} bytes" if type(value) is bytes else f"{value.width} × {value.height}"
        if kind == "array":
            return " × ".join(f"{n:,}" for n in value.shape)
        unit = {"str": "character", "Series": "row"}.get(kind, "item")
        size = _BASE[kind].__len__(value) if kind in _BASE else len(value)
        return f"{counted(size, unit)}"
    except MISBEHAVED:  # of a list of names one that cannot be measured is still a name
        return ""


_BASE: dict[str, Any] = {"str": str, "dict": dict, "list": list}
"""Their own methods are called, not those of a subclass."""


# Tables -------------------------------------------------------------------------------------------------------------


def _frame(name: str, frame: pd.DataFrame) -> tuple[str, str]:
    rows, columns = frame.shape
    size = f"{counted(rows, 'row')} × {counted(columns, 'column')}"
    if rows <= WHOLE_ROWS and columns <= WHOLE_COLUMNS:
        return f"{name}: DataFrame of {size}, all of it", f"{_schema(frame)}\n\n{_table(frame, rows)}"
    summary = f"summary of {name}: {size}; first {min(HEAD_ROWS, rows)} rows and statistics of each column"
    return summary, f"{_schema(frame)}\n\n{_table(frame, HEAD_ROWS)}"


def _series(name: str, series: pd.Series[Any]) -> tuple[str, str]:
    import pandas as pd

    frame, rows = pd.DataFrame({"value" if series.name is None else series.name: series}), len(series)
    size = f"{counted(rows, 'row')}"
    if rows <= 2 * WHOLE_ROWS:
        return f"{name}: Series of {size}, all of it", f"{_schema(frame)}\n\n{_table(frame, rows)}"
    summary = f"summary of {name}: Series of {size}; first {HEAD_ROWS} rows and statistics"
    return summary, f"{_schema(frame)}\n\n{_table(frame, HEAD_ROWS)}"


def _schema(frame: pd.DataFrame) -> str:
    """A line per column: type, missing values, statistics."""
    rows, columns = frame.shape
    step = -(-rows // LOOKED_AT) or 1
    sample = frame.iloc[::step]
    of = f", these of every {_ordinal(step)} row" if step > 1 else ""
    lines = [f"columns (type; missing values; statistics{of}):"]
    counted = frame if frame.size <= COUNTED_VALUES else sample
    for at in range(min(columns, SHOWN_COLUMNS)):  # by position: names may be anything, and may occur twice
        missing = int(counted.iloc[:, at].isna().sum())
        lines.append(_column(_label(frame.columns[at]), sample.iloc[:, at], missing))
    if columns > SHOWN_COLUMNS:
        lines.append(f"… and {columns - SHOWN_COLUMNS:,} more columns")
    return "\n".join(lines)


def _column(label: str, series: pd.Series[Any], missing: int) -> str:
    try:
        statistics = _statistics(series.dropna())
    except MISBEHAVED as error:  # types of other libraries lack one or the other
        statistics = [f"no statistics ({type(error).__name__})"]
    return f"- {label}: {'; '.join([str(series.dtype), *([f'{missing:,} missing'] if missing else []), *statistics])}"


def _statistics(series: pd.Series[Any]) -> list[str]:
    import pandas as pd
    from pandas.api import types

    if not len(series):
        return []
    if types.is_bool_dtype(series.dtype):
        return [f"{int(series.sum()):,} true"]
    if types.is_numeric_dtype(series.dtype) and not types.is_complex_dtype(series.dtype):
        low, median, high = (float(series.quantile(q)) for q in (0, 0.5, 1))
        spread = f", sd {_number(float(series.std()))}" if len(series) > 1 else ""
        return [
            f"min {_number(low)}, median {_number(median)}, mean {_number(float(series.mean()))}, max {_number(high)}{spread}"
        ]
    if types.is_datetime64_any_dtype(series.dtype):
        return [f"{series.min()} to {series.max()}"]
    if isinstance(series.dtype, (pd.CategoricalDtype, pd.StringDtype)):
        counts = series.value_counts()
        often = ", ".join(f"{_cell(value)} ({count:,})" for value, count in counts.head(5).items())
        return [f"{len(counts):,} different, most often {often}"]
    return []


def _table(frame: pd.DataFrame, rows: int) -> str:
    shown = frame.iloc[:rows, :SHOWN_COLUMNS]
    lines = [["", *(_label(column) for column in shown.columns)]]
    columns = [shown.iloc[:, at].array for at in range(shown.shape[1])]
    for at, label in enumerate(shown.index):
        lines.append([_label(label), *(_cell(column[at]) for column in columns)])
    return "\n".join(" | ".join(line) for line in lines)


def _label(value: object) -> str:
    if type(value) is tuple:
        return "(" + ", ".join(map(_label, value)) + ")"
    return _cell(value)


def _array(name: str, array: np.ndarray[Any, Any]) -> tuple[str, str]:
    import numpy as np

    array = np.asarray(array)  # no subclass's own ways of counting
    shape = " × ".join(f"{n:,}" for n in array.shape) or "no dimension"
    step = -(-array.size // LOOKED_AT) or 1
    few = array.size <= MOST_ITEMS
    title = (
        f"{name}: array of {shape} ({array.dtype}), all of it"
        if few
        else f"summary of {name}: array of {shape} ({array.dtype})"
    )
    if few:
        return title, _value(array.tolist(), 0)
    values = array.flat[::step]
    lines = []
    if array.dtype.kind in "iuf":
        real = values[~np.isnan(values)] if array.dtype.kind == "f" else values
        if real.size:
            of = f" of every {_ordinal(step)} value" if step > 1 else ""
            figures = [f"{f.__name__} {_number(float(f(real)))}" for f in (np.min, np.median, np.mean, np.max, np.std)]
            lines.append(f"statistics{of}: {', '.join(figures)}; {values.size - real.size:,} missing")
    return title, "\n".join([*lines, f"first values: {_value(array.flat[:20].tolist(), 0)}"])


# Pictures -----------------------------------------------------------------------------------------------------------


def _picture(name: str, kind: str, value: Any) -> Attachment:
    from io import BytesIO

    from PIL import Image  # came with matplotlib, and only pictures need it

    if kind == "Figure":
        drawn = BytesIO()
        value.savefig(drawn, format="png", dpi=min(150.0, LONGEST_SIDE / max(value.get_size_inches())))
        value = drawn.getvalue()
    picture = Image.open(BytesIO(value)) if type(value) is bytes else value.copy()
    before = picture.size
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    data, media = _encoded(picture)
    size = f"{picture.width} × {picture.height} pixels"
    smaller = f", made smaller from {before[0]} × {before[1]}" if picture.size != before else ""
    summary = f"{name}: {'figure' if kind == 'Figure' else kind} of {size}{smaller}"
    return Attachment(name, kind, summary, summary, image_block(data, media))


def _encoded(picture: Image.Image) -> tuple[bytes, str]:
    from io import BytesIO

    seen_through = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
    plain = picture if picture.mode in ("L", "RGB", "RGBA") else picture.convert("RGBA" if seen_through else "RGB")
    png = BytesIO()
    plain.save(png, "PNG")
    if png.tell() <= LARGEST_PNG:
        return png.getvalue(), "image/png"
    jpeg = BytesIO()
    plain.convert("RGB").save(jpeg, "JPEG", quality=85)
    return jpeg.getvalue(), "image/jpeg"


def image_block(data: bytes, media_type: str) -> Block:
    """Return the content block of a picture."""
    source = {"type": "base64", "media_type": media_type, "data": b64encode(data).decode()}
    return {"type": "image", "source": source}


def image_tokens(block: Block) -> int:
    """Return about how many tokens a picture is to Claude: its pixels by 750.

    Source: https://platform.claude.com/docs/en/build-with-claude/vision
    """
    return _image_tokens(str(block["source"]["data"]))


@lru_cache(maxsize=64)  # while somebody types, the pictures of a chat stay the same
def _image_tokens(data: str) -> int:
    from io import BytesIO

    from PIL import Image

    with Image.open(BytesIO(b64decode(data))) as picture:
        return -(-picture.width * picture.height // PIXELS_PER_TOKEN)


# All else -----------------------------------------------------------------------------------------------------------


def _text(name: str, text: str) -> tuple[str, str]:
    text = str.__str__(text)
    size = len(text)
    summary = f"{name}: text of {counted(size, 'character')}"
    room = LONGEST - 500
    if size <= room:
        return summary, text
    head, tail = text[: room * 3 // 4], text[-room // 4 :]
    return f"{summary}, its beginning and its end", f"{head}\n[… {size - room:,} characters left out …]\n{tail}"


def _collection(name: str, value: Any) -> tuple[str, str]:
    base = dict if isinstance(value, dict) else list
    size = base.__len__(value)
    part = "" if size <= MOST_ITEMS else f", the first {MOST_ITEMS}"
    return f"{name}: {base.__name__} of {counted(size, 'item')}{part}", _value(value, 0)


def _value(value: Any, depth: int) -> str:
    kind = type(value)
    base = next((base for base in COLLECTIONS if issubclass(kind, base)), None)
    if base is None:
        return repr(_cut(value, LONGEST_CELL)) if kind is str else _cell(value)
    if depth == DEEPEST:
        return "…"
    size = base.__len__(value)
    more = [f"… {size - MOST_ITEMS:,} more"] if size > MOST_ITEMS else []
    brackets = {list: "[]", tuple: "()"}.get(base, "{}")
    return brackets[0] + ", ".join([*_fitting(_items(base, value, depth + 1)), *more]) + brackets[1]


def _items(base: Any, value: Any, depth: int) -> Iterator[str]:
    if base is dict:
        for key, item in islice(list(dict.items(value)), MOST_ITEMS):
            yield f"{_value(key, depth)}: {_value(item, depth)}"
    else:
        for item in islice(base.__iter__(value), MOST_ITEMS):
            yield _value(item, depth)


def _fitting(items: Iterable[str]) -> Iterator[str]:
    room = LONGEST
    for item in items:
        room -= len(item)
        if room < 0:
            yield "…"
            return
        yield item


def _cell(value: Any) -> str:
    """A single value in one short line; of an object of somebody else's type, only what it is."""
    kind = type(value)
    if kind.__module__.partition(".")[0] not in TRUSTED:
        return f"<{kind.__name__}>"
    if kind in (str, bytes, bytearray):
        return _cut(str(value[: LONGEST_CELL + 1]), LONGEST_CELL).replace("\n", "\\n")
    if issubclass(kind, COLLECTIONS):
        return _cut(_value(value, DEEPEST - 1), LONGEST_CELL)
    if issubclass(kind, float):
        return _number(value)
    known = kind_of(value)
    if known is not None or not _is_plain(kind):
        return f"<{kind.__name__}>"
    return _cut(str(value), LONGEST_CELL).replace("\n", "\\n")


def _is_plain(kind: type) -> bool:
    """Whether a value of the type is one thing and not a collection that could hold others."""
    return not hasattr(kind, "__len__") and not hasattr(kind, "__next__")


def _number(value: float) -> str:
    return f"{value:.6g}"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _ordinal(n: int) -> str:
    return f"{n:,}{'th' if n % 100 in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


_DESCRIBE: dict[str, Any] = {
    "DataFrame": _frame,
    "Series": _series,
    "array": _array,
    "str": _text,
    "dict": _collection,
    "list": _collection,
}
