"""What is read from the upstream's bytes: the events that the standard says, wherever the bytes were cut."""

from __future__ import annotations

import pytest

from tests.event_streams import STREAMS, EventStream
from workbench.claude import EventSplitter


def events(pieces: list[bytes]) -> list[str]:
    splitter = EventSplitter()
    return [data.decode(errors="replace") for piece in pieces for data in splitter.feed(piece)]


def expected(stream: EventStream) -> list[str]:
    """An event whose data is empty says nothing: no JSON is empty, and some proxies keep a connection alive so."""
    return [data for data in stream.data if data]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_read_as_the_standard_says(name: str) -> None:
    assert events([STREAMS[name].sent]) == expected(STREAMS[name])


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_anywhere_is_the_same(name: str) -> None:
    sent = STREAMS[name].sent

    for cut in range(len(sent) + 1):
        assert events([sent[:cut], sent[cut:]]) == expected(STREAMS[name]), cut
        assert events([sent[:cut], b"", sent[cut:]]) == expected(STREAMS[name]), cut


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_in_small_pieces_is_the_same(name: str, size: int) -> None:
    sent = STREAMS[name].sent

    assert events([sent[n : n + size] for n in range(0, len(sent), size)]) == expected(STREAMS[name])
