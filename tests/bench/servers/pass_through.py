"""The least that can stand between a client and the upstream: aiohttp, which sends on what it reads and understands nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SENT_ON = ("authorization", "anthropic-version", "content-type")


def application(upstream: str) -> web.Application:
    async def connected(app: web.Application) -> AsyncIterator[None]:
        nonlocal session
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield

    async def messages(request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() in SENT_ON}
        body = await request.read()
        async with session.post(f"{upstream}/v1/messages", data=body, headers=headers) as answer:
            response = web.StreamResponse(status=answer.status, headers={"content-type": answer.content_type})
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
            await response.write_eof()
        return response

    session: aiohttp.ClientSession
    app = web.Application()
    app.cleanup_ctx.append(connected)
    app.router.add_post("/v1/messages", messages)
    return app


if __name__ == "__main__":
    web.run_app(application(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
