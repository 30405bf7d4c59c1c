"""What the server makes of every fault of the scripted upstream, worked out by hand from CONTRACT and the price list.

The model is claude-sonnet-5-5, which costs in US dollars per million tokens: input 2, output 10, read from the cache
0.10, written to it 2.50 for five minutes and 4 for an hour, and 0.01 per web search.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.faults.odd import SEPARATORS, UNICODE
from tests.faults.upstream import Usage

RICH = Usage(13, 5001, 301, 203, output_tokens=9)
"""What a prompt counts unless a fault is about counts: 13 x 2 + 5,001 x 0.10 + 301 x 2.50 + 203 x 4 = 2,090.6."""
ALL = "Hello brave new world"


class Counts(NamedTuple):
    """The disjoint counts of a usage row, whether they are an estimate, and what they cost."""

    uncached: int
    read: int
    written_5m: int
    written_1h: int
    output: int
    cost_usd: str
    estimated: bool = False


NOTHING = Counts(0, 0, 0, 0, 0, "0")
# sent, and nobody knows whether it was charged: "hi" counts 2 / 2.5 = 1 token, and 50 for what surrounds it; 51 x 2
PERHAPS = Counts(51, 0, 0, 0, 0, "0.000102", estimated=True)
HELD_USD = "0.041164"
"""Of "hi" with a bound of 4,096 tokens: 51 x 4 for an hour in the cache, and 4,096 x 10."""


class Refused(NamedTuple):
    """A call that fails before its first event: the problem, and how often the upstream was asked."""

    status: int
    message: str
    type: str
    retryable: bool
    calls: int
    counts: Counts = NOTHING
    retry_after: tuple[int | None, ...] = (None,)  # any of them


REFUSED = Refused(502, "Claude refused the request", "upstream_refused", False, 1)
FAILED = Refused(502, "Claude failed", "upstream_error", True, 3)
LIMITED = Refused(503, "Rate limit exceeded", "upstream_rate_limited", True, 3)
OVERLOADED = Refused(503, "Claude is overloaded", "upstream_overloaded", True, 3)
LATE = Refused(504, "Connection timeout", "upstream_timeout", True, 3)
CUT = Refused(502, "Connection failed", "connection_failed", True, 3, PERHAPS)
NO_WORD = Refused(502, "Claude's reply broke off", "broke_off", True, 3, PERHAPS)
BEFORE = {
    "400": REFUSED,
    "400_spend_limit": REFUSED,
    "400_should_retry": REFUSED._replace(retryable=True, calls=3),
    "401": REFUSED,
    "402": REFUSED,
    "403": REFUSED,
    "404": REFUSED,
    "408": LATE,
    "409": FAILED,
    "413": REFUSED,
    "422": REFUSED,
    "429": LIMITED,
    "429_retry_after": LIMITED._replace(retry_after=(1,)),  # a hundredth of a second, rounded up
    "429_retry_after_ms": LIMITED._replace(retry_after=(1,)),
    # 40 s are more than anybody waits here; a date has whole seconds, and on a busy machine some have passed
    "429_retry_after_date": LIMITED._replace(retry_after=tuple(range(31, 41)), calls=1),
    "429_retry_after_hour": LIMITED._replace(retry_after=(3600,), calls=1),
    "429_bad_retry_after": LIMITED,
    "429_spend_limit": REFUSED,
    "500": FAILED,
    "502": FAILED,
    "503": OVERLOADED,
    "504": LATE,
    "529": OVERLOADED,
    "529_no_retry": OVERLOADED._replace(retryable=False, calls=1),
    "llama_400": REFUSED,
    "llama_context": REFUSED,
    "llama_500": FAILED,
    "502_html": FAILED,
    "bad_json_error": FAILED,
    "empty_error": OVERLOADED,
    "odd_json_error": FAILED,
    "empty_200": NO_WORD,
    "empty_stream": NO_WORD,
    "html_200": REFUSED,
    "json_200": REFUSED._replace(counts=PERHAPS),  # a whole reply, which somebody has paid for
    "error_first": OVERLOADED,
    "hang": LATE._replace(counts=PERHAPS),
    "reset_before": CUT,
    "close_before": CUT,
    "half_headers": CUT,
    "garbage_before": CUT,
}


class Broken(NamedTuple):
    """A reply that breaks off: the problem, the text until then, and what is known of its counts."""

    status: int
    message: str
    type: str
    text: str = "Hello brave"
    stop_reason: str | None = None
    # the 11 letters are worth 4 tokens, 3.2 letters each: 2,090.6 + 4 x 10
    counts: Counts = Counts(13, 5001, 301, 203, 4, "0.0021306", estimated=True)


MID_FAILED = Broken(502, "Claude failed", "upstream_error")
MID_CUT = Broken(502, "Connection failed", "connection_failed")
BROKE_OFF = Broken(502, "Claude's reply broke off", "broke_off")
STALLED = Broken(504, "Connection timeout", "upstream_timeout")
# with all its words and the upstream's own count of them, but without its last event: 2,090.6 + 9 x 10
AT_END = {"text": ALL, "stop_reason": "end_turn", "counts": Counts(13, 5001, 301, 203, 9, "0.0021806")}
MID = {
    "cut": MID_CUT,
    "cut_clean": BROKE_OFF,
    "cut_in_frame": BROKE_OFF,
    "cut_in_letter": MID_CUT,
    "no_stop": BROKE_OFF._replace(**AT_END),
    "cut_at_end": MID_CUT._replace(**AT_END),
    "reset": MID_CUT,
    "stall": STALLED,
    "stall_in_frame": STALLED,
    "overloaded": Broken(503, "Claude is overloaded", "upstream_overloaded"),
    "api_error": MID_FAILED,
    "rate_limit": Broken(503, "Rate limit exceeded", "upstream_rate_limited"),
    "timeout": STALLED,
    "unknown_error": MID_FAILED,
    "error_at_end": MID_FAILED._replace(**AT_END),
    "llama_error": MID_FAILED,
    "bare_error": MID_FAILED,
    "bad_json": MID_FAILED,
    "bad_utf8": MID_FAILED,
    "not_an_object": MID_FAILED,
    "no_delta": MID_FAILED,
    "wrong_index": MID_FAILED,
    "garbage": BROKE_OFF,
    "bad_chunk": STALLED,
    "endless_frame": MID_CUT,
}


class Whole(NamedTuple):
    """An odd reply that is whole."""

    text: str = ALL
    counts: Counts = Counts(13, 5001, 301, 203, 9, "0.0021806")
    stop_reason: str | None = "end_turn"
    thinking: int = 0
    searches: int = 0
    own_usage: bool = False
    """Whether the counts are the fault's own; "hi" is then one token, written to the cache: 1 x 2.50."""


def _own(output: int, cost_usd: str) -> Counts:
    return Counts(0, 0, 1, 0, output, cost_usd)


SEARCHED = Counts(1025, 0, 0, 0, 40, "0.02245")  # 1,025 x 2 + 40 x 10, and two searches
ODD = {
    "crlf": Whole(),
    "cr": Whole(),
    "bom": Whole(),
    "split": Whole(),
    "halves": Whole(),
    "together": Whole(),
    "eof": Whole(),
    "gzip": Whole(),
    "close": Whole(),
    "close_silent": Whole(),
    "data_only": Whole(),
    "multi_line": Whole(),
    "padding": Whole(),
    "comments": Whole(),
    "tight": Whole(),
    "unicode": Whole(UNICODE),
    "escaped": Whole(UNICODE),
    "separators": Whole(SEPARATORS + "!"),
    "big": Whole("duck" * 262_144),
    "pings": Whole(),
    "unknown_event": Whole(),
    "unknown_delta": Whole(),
    "unknown_field": Whole(),
    "unknown_block": Whole(),
    "unknown_stop_reason": Whole(stop_reason="bored"),
    "no_usage": Whole(counts=Counts(13, 5001, 301, 203, 7, "0.0021606", estimated=True)),  # 21 letters
    "output_usage": Whole(),
    "null_usage": Whole(),
    "dup_delta": Whole(),
    "rising_usage": Whole(),
    "raised_input": Whole(counts=Counts(125, 0, 0, 0, 4, "0.00029"), own_usage=True),
    "thinking": Whole(counts=_own(9, "0.0000925"), thinking=5, own_usage=True),
    "thinking_omitted": Whole(counts=_own(13, "0.0001325"), thinking=9, own_usage=True),
    "redacted_thinking": Whole(),
    "tool_only": Whole("", _own(3, "0.0000325"), "tool_use", own_usage=True),
    "tool_use": Whole(ALL, _own(7, "0.0000725"), "tool_use", own_usage=True),
    "citations": Whole(),
    "server_tool": Whole(counts=SEARCHED, searches=2, own_usage=True),
    "two_texts": Whole(ALL + "Second block", _own(6, "0.0000625"), own_usage=True),
    "empty_text": Whole("", _own(0, "0.0000025"), own_usage=True),
    "empty_content": Whole("", Counts(25, 0, 0, 0, 2, "0.00007"), own_usage=True),
    "refusal": Whole("", _own(0, "0.0000025"), "refusal", own_usage=True),
    "refusal_partial": Whole(stop_reason="refusal"),
    "max_tokens": Whole(stop_reason="max_tokens"),
    "max_tokens_thinking": Whole("", _own(64, "0.0006425"), "max_tokens", thinking=64, own_usage=True),
    "stop_sequence": Whole(stop_reason="stop_sequence"),
    "pause_turn": Whole(counts=SEARCHED, stop_reason="pause_turn", searches=2, own_usage=True),
    "context_window": Whole(stop_reason="model_context_window_exceeded"),
    "cache_usage": Whole(counts=Counts(12, 5000, 300, 200, 4, "0.002114"), own_usage=True),
    "llama": Whole(counts=Counts(25, 0, 0, 0, 4, "0.00009"), own_usage=True),
    "slow": Whole(),
}

NAMED_BY_THE_ACCEPTANCE = """400 401 403 404 413 429 429_retry_after 500 503 529 html-502 bad-json-body empty-200 hang
cut reset stall error-event no-stop no-usage unknown-event ping-storm crlf bom split batch unicode big garbage dup-delta
refusal max_tokens thinking tool cache"""
"""The faults a server of this kind must stand; a connection that is refused has a test of its own."""

NOT_OURS = (
    *("sk-ant", "req_", "org_scripted", "anthropic-ratelimit", "Traceback", "<html"),
    *(
        "Input is not valid",
        "specified API usage limits",
        "try again",
        "invalid x-api-key",
        "credit balance is too low",
    ),
    *("does not have permission", "claude-nonesuch", "Request timed out", "changed by another request"),
    *("exceeds the maximum size", "could not be processed", "2,000,000 input tokens", "Internal server error"),
    *(
        "Bad gateway",
        "Bad Gateway",
        "Service unavailable",
        "Gateway timeout",
        "Overloaded",
        "Rate limited",
        "Timed out",
    ),
    *("Superposed", "quantum_error", "context shift", "available context size", "missing messages", '"bad"'),
)
"""What the upstream says, or must not be said to anybody."""
