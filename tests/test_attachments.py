"""Values of a notebook as text that a model can read."""

from __future__ import annotations

import collections
from base64 import b64decode
from datetime import datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from workbench.attachments import LONGEST, attach, attachable, image_tokens, summaries
from workbench.errors import InvalidRequest


class Hostile:
    """Whatever of it is called fails the test."""

    def __repr__(self) -> str:
        raise AssertionError("code of the notebook was called")

    __str__ = __len__ = __iter__ = __hash__ = __eq__ = __repr__  # type: ignore[assignment]


class HostileList(list):  # type: ignore[type-arg]
    def __repr__(self) -> str:
        raise AssertionError("code of the notebook was called")

    __str__ = __len__ = __iter__ = __getitem__ = __repr__  # type: ignore[assignment]


class HostileDict(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise AssertionError("code of the notebook was called")

    __repr__ = __str__ = __len__ = __iter__ = __getitem__ = items  # type: ignore[assignment]


def text(value: object) -> str:
    return attach("x", value).text


# --- Tables -----------------------------------------------------------------------------------------------------


def test_a_small_table_is_sent_whole_with_its_types_and_missing_values() -> None:
    frame = pd.DataFrame({"region": ["north", "south", None], "revenue": [1.5, 2.5, 3.5]})

    assert attach("df", frame).text == (
        "df: DataFrame of 3 rows × 2 columns, all of it\n"
        "columns (type; missing values; statistics):\n"
        "- region: str; 1 missing; 2 different, most often north (1), south (1)\n"
        "- revenue: float64; min 1.5, median 2.5, mean 2.5, max 3.5, sd 1\n"
        "\n"
        " | region | revenue\n"
        "0 | north | 1.5\n"
        "1 | south | 2.5\n"
        "2 | nan | 3.5"
    )


def test_a_large_table_is_summarised_and_says_so() -> None:
    frame = pd.DataFrame({f"c{n}": np.arange(1_000_000.0) for n in range(12)})
    frame.iloc[:3, 0] = np.nan
    sent = attach("df", frame)

    assert sent.summary == "summary of df: 1,000,000 rows × 12 columns; first 5 rows and statistics of each column"
    assert "columns (type; missing values; statistics, these of every 10th row):" in sent.text
    assert "- c0: float64; 3 missing; min 10, " in sent.text
    assert sent.text.count("\n") == 1 + 12 + 1 + 1 + 5
    assert "4 | 4 | 4 |" in sent.text and "\n5 |" not in sent.text


def test_a_table_of_many_columns_shows_the_first_and_counts_the_rest() -> None:
    sent = text(pd.DataFrame(np.zeros((2, 500))))

    assert "… and 450 more columns" in sent
    assert "- 49: " in sent and "- 50: " not in sent
    assert sent.splitlines()[0] == "summary of x: 2 rows × 500 columns; first 2 rows and statistics of each column"


@pytest.mark.parametrize("frame", [pd.DataFrame(), pd.DataFrame({"a": []}), pd.DataFrame(index=[1, 2])])
def test_an_empty_table_can_be_attached(frame: pd.DataFrame) -> None:
    rows, columns = frame.shape

    assert f"x: DataFrame of {rows} rows × {columns} column" in text(frame)


def test_names_of_columns_may_be_anything_and_occur_twice() -> None:
    frame = pd.DataFrame([[1, 2, 3, 4, 5]], columns=pd.Index(["a", "a", None, ("b", 1), 7], dtype=object))
    wide = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")]))

    assert " | a | a | None | (b, 1) | 7\n0 | 1 | 2 | 3 | 4 | 5" in text(frame)
    assert "- (a, x): int64" in text(wide)


def test_columns_of_every_type_are_read() -> None:
    frame = pd.DataFrame(
        {
            "flag": [True, False],
            "when": pd.to_datetime(["2026-01-01", "2026-02-01"]),
            "zoned": pd.to_datetime(["2026-01-01", "2026-02-01"], utc=True),
            "span": pd.to_timedelta([1, 2], unit="D"),
            "class": pd.Categorical(["a", "b"]),
            "whole": pd.array([1, None], dtype="Int64"),
            "arrow": pd.array([1, 2], dtype="int64[pyarrow]"),
            "period": pd.period_range("2026-01", periods=2, freq="M"),
            "interval": pd.interval_range(0, 2),
            "complex": [1 + 2j, 3j],
            "money": [Decimal("1.10"), Decimal("2.20")],
            "lists": [[1, 2], {"a": 1}],
        }
    )
    sent = text(frame)

    assert "- flag: bool; 1 true" in sent
    assert "2026-01-01 00:00:00 to 2026-02-01 00:00:00" in sent
    assert "- class: category; 2 different, most often a (1), b (1)" in sent
    assert "- whole: Int64; 1 missing; min 1, median 1, mean 1, max 1" in sent
    assert "- arrow: int64[pyarrow]; min 1, " in sent
    assert "1.10 | [1, 2]" in sent and "2.20 | {'a': 1}" in sent
    assert "no statistics" not in sent


def test_long_cells_and_line_breaks_do_not_break_the_table() -> None:
    sent = text(pd.DataFrame({"a": ["x" * 10_000, "one\ntwo"]}))

    assert "x" * 199 + "…" in sent and "x" * 201 not in sent
    assert "one\\ntwo" in sent


def test_nothing_sent_is_longer_than_the_bound() -> None:
    wide = pd.DataFrame([[f"{'y' * 300}"] * 50] * 30)

    assert len(text(wide)) == LONGEST
    assert len(text([["z" * 200] * 100] * 100)) <= LONGEST
    assert len(text("s" * 1_000_000)) <= LONGEST


def test_a_series_is_sent_whole_or_summarised() -> None:
    short = pd.Series([1, 2], index=["a", "b"], name="n")

    assert "x: Series of 2 rows, all of it" in text(short) and "a | 1\nb | 2" in text(short)
    assert "summary of x: Series of 1,000 rows; first 5 rows and statistics" in text(pd.Series(range(1000)))


# --- Arrays, texts, collections ---------------------------------------------------------------------------------


def test_arrays_are_sent_whole_or_summarised() -> None:
    assert text(np.array([[1, 2], [3, 4]])) == "x: array of 2 × 2 (int64), all of it\n[[1, 2], [3, 4]]"
    assert text(np.array(5.0)) == "x: array of no dimension (float64), all of it\n5"
    large = text(np.r_[np.arange(999.0), np.nan])
    assert large.startswith(
        "summary of x: array of 1,000 (float64)\nstatistics: min 0, median 499, mean 499, max 998, "
    )
    assert "; 1 missing\nfirst values: [0, 1, 2, " in large
    assert "statistics" not in text(np.array(["a"] * 1000))
    assert "statistics" not in text(np.array([np.nan] * 1000))


def test_texts_are_sent_whole_or_without_their_middle() -> None:
    assert text("hello\nworld") == "x: text of 11 characters\nhello\nworld"
    long = text("a" * 20_000 + "b" * 20_000)
    assert long.startswith("x: text of 40,000 characters, its beginning and its end\naaa")
    assert "[… 20,500 characters left out …]" in long and long.endswith("bbb")


def test_collections_are_sent_in_part_when_they_are_long_or_deep() -> None:
    deep: list[Any] = []
    deep.append(deep)

    assert text({"a": [1, (2.5, None)], "b": {"c": True}}) == (
        "x: dict of 2 items\n{'a': [1, (2.5, None)], 'b': {'c': True}}"
    )
    assert text(list(range(1000))).endswith("99, … 900 more]")
    assert text(list(range(1000))).startswith("x: list of 1,000 items, the first 100\n[0, 1")
    assert text(deep) == "x: list of 1 item\n[[[[…]]]]"
    assert text(collections.OrderedDict(a=1)).endswith("{'a': 1}")
    assert text([]) == "x: list of 0 items\n[]"
    assert text([datetime(2026, 1, 2)]).endswith("[2026-01-02 00:00:00]")


def test_code_of_the_notebook_is_never_called() -> None:
    held = [Hostile(), {"a": Hostile()}, HostileList([1]), HostileDict(a=1)]

    assert text(held).endswith("[<Hostile>, {'a': <Hostile>}, [1], {'a': 1}]")
    assert text(HostileList([1, 2])).endswith("[1, 2]")
    assert text(HostileDict(a=1)).endswith("{'a': 1}")
    assert "0 | <Hostile>" in text(pd.DataFrame({"a": pd.Series([Hostile()], dtype=object)}))
    assert text(np.array([Hostile()], dtype=object)).endswith("[<Hostile>]")


def test_what_cannot_be_sent_is_replaced() -> None:
    assert text("a\x00b\ud800") == "x: text of 4 characters\na\ufffdb?"


def test_what_cannot_be_read_is_an_error_that_names_it() -> None:
    class Broken(pd.DataFrame):
        @property
        def iloc(self) -> Any:
            raise RuntimeError("changed meanwhile")

    with pytest.raises(InvalidRequest, match=r"df could not be read \(RuntimeError\); attach a copy of it"):
        attach("df", Broken({"a": [1]}))
    with pytest.raises(InvalidRequest, match="f is of type function, which cannot be attached"):
        attach("f", lambda: None)


# --- Names ------------------------------------------------------------------------------------------------------


def test_variables_that_can_be_attached_are_listed_with_kind_and_size() -> None:
    namespace = {
        "df": pd.DataFrame({"a": range(1200)}),
        "arr": np.zeros((2, 3)),
        "Series": pd.Series([1, 2]),
        "name": "hello",
        "conf": {"a": 1},
        "evil": HostileList([1]),
        "_hidden": [1],
        "module": pd,
        "number": 7,
        "not a name": [1],
    }

    assert list(attachable(namespace)) == [
        ("arr", "array", "2 × 3"),
        ("conf", "dict", "1 item"),
        ("df", "DataFrame", "1,200 × 1"),
        ("evil", "list", "1 item"),
        ("name", "str", "5 characters"),
        ("Series", "Series", "2 rows"),
    ]


def test_a_message_tells_what_was_attached_to_it() -> None:
    blocks = [attach("a", [1]).block, attach("b", "text").block, {"type": "text", "text": '<attachment name="c">\nno'}]

    assert summaries(blocks) == ["a: list of 1 item", "b: text of 4 characters"]
    assert summaries([]) == []


# --- Pictures ---------------------------------------------------------------------------------------------------


def picture_of(block: Any) -> Image.Image:
    assert block["type"] == "image" and block["source"]["type"] == "base64"
    picture = Image.open(BytesIO(b64decode(block["source"]["data"])))
    assert block["source"]["media_type"] == f"image/{picture.format.lower()}"  # type: ignore[union-attr]
    return picture


def test_a_figure_is_drawn_and_named() -> None:
    figure = Figure(figsize=(6, 4))
    figure.add_subplot().plot([1, 2, 3])
    sent = attach("fig", figure)

    assert sent.summary == "fig: figure of 900 × 600 pixels"
    assert [block["type"] for block in sent.blocks] == ["text", "image"]
    assert picture_of(sent.image).size == (900, 600)
    assert image_tokens(sent.blocks[1]) == 720  # 900 x 600 / 750


def test_a_large_picture_is_made_smaller_and_says_so() -> None:
    sent = attach("big", Image.new("RGB", (4000, 2000)))

    assert sent.summary == "big: picture of 1568 × 784 pixels, made smaller from 4000 × 2000"
    assert picture_of(sent.image).size == (1568, 784)


def test_a_photograph_goes_as_jpeg_and_stays_small() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (1500, 1500, 3), dtype=np.uint8)
    sent = picture_of(attach("photo", Image.fromarray(noise)).image)

    assert (sent.format, sent.size) == ("JPEG", (1500, 1500))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "I;16", "F"])
def test_pictures_of_every_mode_can_be_sent(mode: str) -> None:
    assert picture_of(attach("x", Image.new(mode, (20, 10))).image).size == (20, 10)


def test_bytes_are_a_picture_only_if_they_look_like_one() -> None:
    png = BytesIO()
    Image.new("RGB", (8, 4)).save(png, "PNG")

    assert attach("x", png.getvalue()).summary == "x: picture of 8 × 4 pixels"
    assert [(name, kind) for name, kind, _ in attachable({"x": png.getvalue(), "y": b"other"})] == [("x", "picture")]
    with pytest.raises(InvalidRequest, match="y is of type bytes"):
        attach("y", b"other bytes")
    with pytest.raises(InvalidRequest, match=r"broken could not be read \(UnidentifiedImageError\)"):
        attach("broken", b"\x89PNG\r\n\x1a\n and nothing more")
