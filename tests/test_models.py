"""Which models are retired, since when, and what replaces them."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from anthropic.resources.messages.messages import DEPRECATED_MODELS

from workbench.errors import ModelRetired
from workbench.models import SUCCESSORS, refuse_retired
from workbench.pricing import price_of

TODAY = date(2026, 11, 24)
HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"


@pytest.mark.parametrize(
    ("model", "successor"),
    [
        ("claude-sonnet-4-20250514", SONNET),
        ("claude-sonnet-4-0", SONNET),
        ("claude-opus-4-20250514", OPUS),
        ("claude-opus-4-0", OPUS),
        ("claude-haiku-4-20250514", HAIKU),
        ("claude-opus-4-1", OPUS),
        ("claude-opus-4-1-20250805", OPUS),
        ("claude-3-haiku-20240307", HAIKU),
        ("claude-3-5-haiku-latest", HAIKU),
        ("claude-3-5-sonnet-20241022", SONNET),
        ("claude-3-7-sonnet-latest", SONNET),
        ("claude-3-opus-20240229", OPUS),
        ("claude-2", SONNET),
        ("claude-2.1", SONNET),
        ("claude-instant-1.2", SONNET),
        ("claude-1.3-100k", SONNET),
    ],
)
def test_a_retired_model_is_refused_with_its_successor(model: str, successor: str) -> None:
    with pytest.raises(ModelRetired) as caught:
        refuse_retired(model, TODAY)

    assert (caught.value.model, caught.value.successor) == (model, successor)
    assert str(caught.value) == f"model '{model}' is retired; use '{successor}', its successor"


@pytest.mark.parametrize(
    "model",
    [
        *SUCCESSORS.values(),
        "claude-sonnet-4-6",
        "claude-opus-4-5",
        "claude-opus-4-10",
        "claude-haiku-4-5",
        "claude-fable-5-2",
        "claude-30-sonnet",
        "claude-20",
        "my-claude-2",
        "local",
        "llama3",
    ],
)
def test_a_model_in_service_is_not_refused(model: str) -> None:
    refuse_retired(model, TODAY)


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-sonnet-4-5-20250929"])
def test_a_model_is_refused_from_its_last_day_on(model: str) -> None:
    refuse_retired(model, date(2026, 11, 29))
    with pytest.raises(ModelRetired):
        refuse_retired(model, date(2026, 11, 30))


@pytest.mark.parametrize("model", DEPRECATED_MODELS)
def test_every_model_the_sdk_calls_deprecated_is_known(model: str) -> None:
    with pytest.raises(ModelRetired):
        refuse_retired(model, date(2026, 11, 30))


@pytest.mark.parametrize("model", ["claude-sonnet-4-20250514", "claude-sonnet-4-5", "claude-mythos-preview"])
def test_no_model_is_refused_before_the_day_the_sdk_names(model: str) -> None:
    month, day, year = DEPRECATED_MODELS[model].replace(",", "").split()
    ends = datetime.strptime(f"{month} {day[:-2]} {year}", "%B %d %Y").date()

    refuse_retired(model, ends - timedelta(days=1))
    with pytest.raises(ModelRetired):
        refuse_retired(model, ends)


@pytest.mark.parametrize("successor", SUCCESSORS.values())
def test_every_successor_is_in_service_and_has_a_price(successor: str) -> None:
    refuse_retired(successor, TODAY)

    assert price_of(successor, datetime(2026, 11, 24).astimezone()) is not None
