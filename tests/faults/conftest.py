"""The SDK's own client, connected to the scripted upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anthropic
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.faults.upstream import ScriptedUpstream


@pytest.fixture
def connect(upstream: ScriptedUpstream) -> Callable[..., anthropic.AsyncAnthropic]:
    """Makes clients on the aiohttp transport that fail fast and trust nothing."""

    def connect(*, strict: bool = True, **options: object) -> anthropic.AsyncAnthropic:
        options = {"max_retries": 0, "timeout": 5.0} | options
        return anthropic.AsyncAnthropic(
            base_url=upstream.url,
            api_key="sk-ant-test",
            http_client=anthropic.DefaultAioHttpClient(),
            _strict_response_validation=strict,
            **options,
        )

    return connect


@pytest.fixture
async def claude(connect: Callable[..., anthropic.AsyncAnthropic]) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with connect() as client:
        yield client
