"""The server most people would write: FastAPI, the SDK's stream of events, an event a token. It keeps and checks nothing."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import anthropic
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MODEL = "claude-sonnet-5-5"


class Question(BaseModel):
    message: str


def application(upstream: str) -> FastAPI:
    app = FastAPI()
    client = anthropic.AsyncAnthropic(api_key="sk-bench", base_url=upstream)

    def request(question: Question) -> dict[str, Any]:
        return {"model": MODEL, "max_tokens": 4096, "messages": [{"role": "user", "content": question.message}]}

    async def events(question: Question) -> AsyncIterator[str]:
        text = ""
        async for event in await client.messages.create(**request(question), stream=True):
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                text += event.delta.text
                yield f"data: {json.dumps({'token': event.delta.text, 'done': False})}\n\n"
        yield f"data: {json.dumps({'token': '', 'done': True, 'fullText': text})}\n\n"

    @app.post("/chat/stream")
    async def stream(question: Question) -> StreamingResponse:
        return StreamingResponse(events(question), media_type="text/event-stream")

    @app.post("/chat")
    async def chat(question: Question) -> dict[str, Any]:
        message = await client.messages.create(**request(question))
        return {"reply": "".join(block.text for block in message.content if block.type == "text")}

    return app


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[2]), port=int(sys.argv[1]), log_level="warning")
