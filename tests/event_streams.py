r"""Event streams and what a reader must make of each, by the rules of the HTML standard, worked out by hand.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation, in short: UTF-8, a byte order
mark at the very start does not count; a line ends in CR LF, LF or CR; a line is a name, a colon and a value, of which one
space after the colon does not count, or a name alone, with an empty value; what begins with a colon is a comment; lines
of ``data`` are joined with line feeds; an empty line ends an event, which counts if it had a line of ``data``; what no
empty line ended does not count.
"""

from __future__ import annotations

from typing import NamedTuple


class EventStream(NamedTuple):
    """A stream and the data of its events."""

    sent: bytes
    data: list[str]


DUCK = "🦆"
STREAMS = {
    "one event": EventStream(b"data: duck\n\n", ["duck"]),
    "nothing": EventStream(b"", []),
    "only line ends": EventStream(b"\n\r\n\r\r\n\n", []),
    # line ends
    "lf": EventStream(b"data: a\n\ndata: b\n\n", ["a", "b"]),
    "cr": EventStream(b"data: a\r\rdata: b\r\r", ["a", "b"]),
    "cr lf": EventStream(b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
    "lf then cr": EventStream(b"data: a\n\rdata: b\n\r", ["a", "b"]),
    "cr lf then lf": EventStream(b"data: a\r\n\ndata: b\r\n\n", ["a", "b"]),
    "cr lf then cr": EventStream(b"data: a\r\n\rdata: b\r\n\r", ["a", "b"]),
    "lf then cr lf": EventStream(b"data: a\n\r\ndata: b\n\r\n", ["a", "b"]),
    "cr then cr lf": EventStream(b"data: a\r\r\ndata: b\r\r\n", ["a", "b"]),
    "cr lf lf within an event": EventStream(b"data: a\r\ndata: b\r\n\ndata: c\n\n", ["a\nb", "c"]),
    "many empty lines": EventStream(b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", ["a", "b"]),
    "one empty line at the start": EventStream(b"\ndata: a\n\n", ["a"]),
    "letters that end lines elsewhere": EventStream(
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei\n\n".encode(),
        ["a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei"],
    ),
    # the end
    "an event that was not ended": EventStream(b"data: a\n\ndata: b\n", ["a"]),
    "a line that was not ended": EventStream(b"data: a\n\ndata: b", ["a"]),
    "a line end that may be half of one": EventStream(b"data: a\r", []),
    "cr at the end": EventStream(b"data: a\n\r", ["a"]),
    # fields
    "two lines": EventStream(b"data: a\ndata: b\n\n", ["a\nb"]),
    "lines apart": EventStream(b"data: a\nevent: x\n: note\nid: 1\ndata: b\n\n", ["a\nb"]),
    "an empty line of data": EventStream(b"data: a\ndata:\ndata: b\n\n", ["a\n\nb"]),
    "a line of data without a colon": EventStream(b"data: a\ndata\ndata: b\n\n", ["a\n\nb"]),
    "data without a colon first": EventStream(b"data\ndata: a\n\n", ["\na"]),
    "data without a colon last": EventStream(b"data: a\ndata\n\n", ["a\n"]),
    "two lines without a colon": EventStream(b"data\ndata\n\n", ["\n"]),
    "two empty lines of data": EventStream(b"data:\ndata:\n\n", ["\n"]),
    "no data": EventStream(b"event: x\nid: 7\n\nretry: 9\n\n", []),
    "empty data": EventStream(b"data\n\ndata:\n\ndata: \n\ndata: a\n\n", ["", "", "", "a"]),
    "empty data at the end": EventStream(b"data:\n\ndata", [""]),
    "no space": EventStream(b"data:a\n\n", ["a"]),
    "one space of two": EventStream(b"data:  a\n\n", [" a"]),
    "only the space": EventStream(b"data:a\ndata: \ndata:  \n\n", ["a\n\n "]),
    "a tab is no space": EventStream(b"data:\ta\n\n", ["\ta"]),
    "spaces at the end": EventStream(b"data: a  \n\n", ["a  "]),
    "colons in the value": EventStream(b"data: a: b\ndata::c\n\n", ["a: b\n:c"]),
    "data in the value": EventStream(b"data: data: a\n\n", ["data: a"]),
    "a colon in front": EventStream(b":data: a\n\n", []),
    "a space in front": EventStream(b" data: a\n\n", []),
    "a space before the colon": EventStream(b"data : a\n\n", []),
    "capitals": EventStream(b"Data: a\nDATA: b\ndata: c\n\n", ["c"]),
    "names that begin alike": EventStream(b"datax: a\ndata2\nxdata: b\ndata: c\n\n", ["c"]),
    "fields nobody knows": EventStream(b"name: x\ndat: y\ndata: a\n{}\n\n", ["a"]),
    "ids and times": EventStream(b"id: 1\x002\nretry: 1000\nretry: soon\nid\ndata: a\n\n", ["a"]),
    "names of events": EventStream(b"event: error\ndata: a\n\nevent\ndata: b\n\ndata: c\n\n", ["a", "b", "c"]),
    # comments
    "comments": EventStream(b": note\n\n:\n:\n\ndata: a\n:\n: data: b\n\n: note\n\n", ["a"]),
    "comments between": EventStream(b"data: a\n: note\ndata: b\n\n", ["a\nb"]),
    "a long comment": EventStream(b": " + b"x" * 1000 + b"\n\ndata: a\n\n", ["a"]),
    # letters
    "byte order mark": EventStream(b"\xef\xbb\xbfdata: a\n\ndata: b\n\n", ["a", "b"]),
    "byte order mark, then an empty line": EventStream(b"\xef\xbb\xbf\n\ndata: a\n\n", ["a"]),
    "byte order mark before a comment": EventStream(b"\xef\xbb\xbf: note\n\ndata: a\n\n", ["a"]),
    "two byte order marks": EventStream(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", ["b"]),
    "a byte order mark later": EventStream(b"data: a\n\n\xef\xbb\xbfdata: b\n\ndata: c\n\n", ["a", "c"]),
    "a byte order mark in a value": EventStream("data: \ufeffa\ndata:\ufeff\n\n".encode(), ["\ufeffa\n\ufeff"]),
    "part of a byte order mark": EventStream(b"\xef\xbbdata: a\n\ndata: b\n\n", ["b"]),
    "letters of four bytes": EventStream(f"data: {DUCK}é\ndata:{DUCK}\n\n".encode(), [f"{DUCK}é\n{DUCK}"]),
    "half a letter": EventStream(b"data: a\xf0\x9f\n\ndata: b\n\n", ["a\ufffd", "b"]),
    "nul": EventStream(b"data: \x00a\x00\n\x00data: b\n\n", ["\x00a\x00"]),
}
