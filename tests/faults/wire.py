"""A second opinion for the tests: bytes from a raw socket, and events read by the standard's own rules."""

from __future__ import annotations

import json
import re
import socket
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.upstream import ScriptedUpstream


def ask(content: str = "hi", **more: Any) -> dict[str, Any]:
    """A smallest valid request."""
    messages = [{"role": "user", "content": content}]
    return {"model": "claude-sonnet-5-5", "max_tokens": 100, "messages": messages} | more


def request_bytes(body: dict[str, Any]) -> bytes:
    encoded = json.dumps(body).encode()
    lines = ["POST /v1/messages HTTP/1.1", "authorization: Bearer k", "anthropic-version: 2026-10-21"]
    return "\r\n".join([*lines, f"content-length: {len(encoded)}", "", ""]).encode() + encoded


def exchange(upstream: ScriptedUpstream, body: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    """Send one request, read to the end of the connection or of the last chunk: headers and undecoded body."""
    with socket.create_connection((upstream.host, upstream.port), timeout=5) as sock:
        sock.sendall(request_bytes(body))
        received = b""
        while not received.endswith(b"\r\n0\r\n\r\n") and (data := sock.recv(1 << 20)):
            received += data
    head, _, rest = received.partition(b"\r\n\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return headers, rest


def chunks(body: bytes) -> list[bytes]:
    found = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        found.append(rest[: int(size, 16)])
        body = rest[int(size, 16) + 2 :]
    return found[:-1]  # the last one is empty


def decoded(headers: dict[str, str], body: bytes) -> str:
    data = b"".join(chunks(body)) if "transfer-encoding" in headers else body
    return (zlib.decompress(data, wbits=31) if headers.get("content-encoding") == "gzip" else data).decode()


def events(stream: str) -> list[dict[str, Any]]:
    """The JSON of each event, by https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    found, data = [], []
    for line in re.split("\r\n|\r|\n", stream.removeprefix("\ufeff")):
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:
            found.append(json.loads("\n".join(data)))
            data = []
    return found
