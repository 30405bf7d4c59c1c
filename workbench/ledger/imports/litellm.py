"""Spend logs of a LiteLLM proxy: rows of its table as a JSON array, as JSON lines or as CSV.

A call to one of Anthropic's models costs what our table says. Of others it is what LiteLLM wrote down, and unknown where
that is nothing: it writes 0 for a price that it does not know.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from workbench.ledger.imports.reading import parsed
from workbench.ledger.imports.values import (
    Call,
    Malformed,
    count,
    mapping,
    milliseconds,
    model_name,
    moment,
    name,
    or_none,
)
from workbench.pricing import LEDGER_DIGITS
from workbench.turns import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from workbench.ledger.imports.reading import Source
    from workbench.ledger.imports.values import Notes

FORMAT = "litellm"
PRICED = "LiteLLM's spend log"
MOST_USD = Decimal(10_000)
"""A call that costs more is a mistake, and a thousand of a million each are more than the sums of the ledger can hold."""


def fits(value: Mapping[str, Any]) -> bool:
    """Tell whether an element or a line is one of these."""
    return "request_id" in value and "startTime" in value


def read(source: Source, notes: Notes) -> Iterator[Call]:
    """Yield the calls of a log; what LiteLLM answered from its own cache was none."""
    for line, row in _rows(source):
        try:
            value = parsed(row) if isinstance(row, bytes) else row
            if not isinstance(value, dict):
                raise Malformed("is no row that can be read")
            if str(value.get("cache_hit")).lower() == "true":
                notes.left_out["that LiteLLM answered from its own cache"] += 1
            else:
                yield _call(value)
        except Malformed as error:
            notes.problem(str(source.path), line, error)


def _rows(source: Source) -> Iterator[tuple[int, Any]]:
    begin = source.head(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    if begin.startswith(b"["):
        return source.elements()
    return source.lines() if begin.startswith(b"{") else source.rows()


def _call(row: Mapping[str, Any]) -> Call:
    key = name(row.get("request_id"))
    if not key:
        raise Malformed("has no request_id")
    about = _object(row.get("metadata"))
    began, ended = moment(row.get("startTime")), _later(row.get("endTime"))
    first = _later(row.get("completionStartTime"))
    failed = "failure" in (row.get("status"), about.get("status"))
    model = model_name(row.get("model"), "unknown")
    ours = name(row.get("custom_llm_provider")) in ("", "anthropic") and model.startswith("claude")
    return Call(
        key=key,
        model=model,
        at=began,
        usage=_usage(row, about),
        request_id=key,
        session=or_none(row.get("session_id")),
        user=_user(row.get("user")),
        status="failed" if failed else "complete",
        error_type=or_none(_object(about.get("error_information")).get("error_class")) if failed else None,
        # where nothing streams, the first token has the time of the last
        ttft_ms=_between(began, first) if first != ended else None,
        duration_ms=_between(began, ended),
        priced=None if ours else _spend(row.get("spend")),
    )


def _usage(row: Mapping[str, Any], about: Mapping[str, Any]) -> Usage:
    details = {**_object(about.get("additional_usage_values")), **_object(about.get("usage_object"))}
    of_prompt = _object(details.get("prompt_tokens_details"))
    of_output = _object(details.get("completion_tokens_details"))
    by_ttl = _object(of_prompt.get("cache_creation_token_details"))
    read = count(details, "cache_read_input_tokens") or count(of_prompt, "cached_tokens")
    written = count(details, "cache_creation_input_tokens") or max(
        count(of_prompt, "cache_creation_tokens"), count(of_prompt, "cache_write_tokens")
    )
    hour = min(written, count(by_ttl, "ephemeral_1h_input_tokens"))
    prompt, output = count(row, "prompt_tokens"), count(row, "completion_tokens")
    # the prompt's count includes the cache today; in older versions that was beside it
    uncached = prompt - read - written if prompt >= read + written else prompt
    return Usage(
        uncached_input_tokens=uncached,
        cache_read_tokens=read,
        cache_write_5m_tokens=written - hour,
        cache_write_1h_tokens=hour,
        output_tokens=output,
        thinking_tokens=min(output, count(of_output, "reasoning_tokens")),
        web_searches=count(_object(details.get("server_tool_use")), "web_search_requests"),
        service_tier=or_none(details.get("service_tier")),
        inference_geo=or_none(details.get("inference_geo")),
        speed=or_none(details.get("speed")),
    )


def _object(value: object) -> Mapping[str, Any]:
    """An object, also one that CSV has as a text."""
    if isinstance(value, str) and value.startswith("{"):
        value = parsed(value.encode(errors="replace"))
    return mapping(value)


def _user(value: object) -> str | None:
    # ids of users have no other letters here
    return re.sub(r"[^A-Za-z0-9._:-]", ".", name(value))[:64] or None


def _later(value: object) -> datetime | None:
    return moment(value) if value else None


def _between(begin: datetime, end: datetime | None) -> int | None:
    return None if end is None else milliseconds((end - begin).total_seconds() * 1000)


def _spend(value: object) -> tuple[Decimal | None, str]:
    try:
        spend = Decimal(str(value))
    except InvalidOperation:
        return None, "unknown"
    if not spend.is_finite() or not 0 < spend < MOST_USD:
        return None, "unknown"
    return spend.quantize(LEDGER_DIGITS), PRICED
