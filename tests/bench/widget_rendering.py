"""What showing a reply costs the browser: our numbered deltas against syncing the whole text as a trait, in the same run.

A reply of 5,000 tokens of Markdown arrives at 200 tokens a second in Debian's Chromium. There is no JupyterLab: this
process plays the kernel, makes every message with jupyter_client, frames it as jupyter_server does (protocol
``v1.kernel.websocket.jupyter.org``) and sends it over a real websocket, whose frames are what is counted; the page takes
the frame apart, and hands the content to the built bundle as a widget manager does. What JupyterLab itself does with a
message is left out on both sides, so the trait, with six times the messages, is spared more of it.

Deltas are batched by the product's own ``Batches``, with ``usage`` once a second. The trait is what
``widget.text += token`` sends, once a token; its page renders it once a frame with the same renderer, all of it, as who
has nothing but the whole text must. The row of plain text is a trait whose page sets text and renders no Markdown: less
than any chat does. Browser time is Chromium's own count of what the page's main thread did, with a probe that asks for
every frame in all rows. In the last row nothing arrives: it says what the probe costs, and how even frames are on this
machine beside its other work. A longest frame is the page's only as far as it exceeds that row's.

Of the trait in plain text deltas cost almost half, not a quarter: it lays out one text up to 60 times a second and reads
nothing of it, while a chat reads, sanitises, lays out and paints its Markdown with each of 25 batches a second. Scripts
are less than a third of that time; the rest, the probe's part included, is mostly layout, paint and commit, which only
batches that come more seldom would save, and the reader would wait for them.

Then a reader scrolls through a chat of 10,000 messages, every other one a reply of up to 1,000 characters of that Markdown:
by so many pixels every frame, up and down again. At most 60 of the messages are in the document at a time.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import WSMsgType, web
from jupyter_client.session import Session
from jupyter_server.services.kernels.connection.base import serialize_msg_to_ws_v1
from playwright.async_api import async_playwright

from tests.browser.lab import FLAGS
from workbench.notebook.batches import Batches
from workbench.turns import Delta

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.async_api import Browser

    Send = Callable[[dict[str, Any]], None]

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "workbench" / "notebook" / "static"
HARNESS = (ROOT / "tests" / "browser" / "renderer" / "harness.js").read_text(encoding="utf-8")
TOKENS, A_SECOND = 5000, 200
MESSAGES, SCROLLED, SCROLL_FRAMES = 10_000, 200, 600
"""How long a chat is scrolled, by how many pixels a frame, for how many frames each way."""

DELTAS, TRAIT, PLAIN, THREE = "deltas", "whole text as a trait", "the same, plain text", "deltas, 3 chats at once"
IDLE = "nothing arrives"

WORDS = [
    "the",
    "of",
    "a",
    "model",
    "reply",
    "token",
    "price",
    "ledger",
    "turn",
    "cache",
    "chat",
    "store",
    "query",
    "week",
    "month",
    "value",
    "sum",
    "mean",
]

PAGE = """
async ({ url, chats, trait }) => {
  const decoder = new TextDecoder();
  const take = (frame) => {
    const numbers = new DataView(frame);
    const count = Number(numbers.getBigUint64(0, true));
    const offsets = Array.from({ length: count }, (_, i) => Number(numbers.getBigUint64(8 * (i + 1), true)));
    const parts = offsets.slice(1, -1).map((at, i) => JSON.parse(decoder.decode(frame.slice(at, offsets[i + 2]))));
    return parts[3].data;
  };
  const gaps = [];
  let last = null;
  const probe = (now) => { if (last !== null) gaps.push(now - last); last = now; if (going) requestAnimationFrame(probe); };
  let going = true;
  const one = (n) => new Promise((done) => {
    let hear;
    if (trait === "markdown") {
      const model = wb.show();
      const messages = [{ message_id: "reply", role: "assistant", status: "complete" }];
      hear = ({ state }) => model.receive({ ...wb.SNAP, messages: [{ ...messages[0], text: state.text }] });
    } else if (trait) {
      const pre = document.body.appendChild(document.createElement("pre"));
      pre.style = "white-space: pre-wrap; height: 480px; overflow: auto";
      let text = "", due = null;
      hear = ({ state }) => {
        text = state.text;
        due ??= requestAnimationFrame(() => { due = null; pre.textContent = text; pre.scrollTop = pre.scrollHeight; });
      };
    } else {
      const model = wb.show();
      hear = ({ content }) => model.receive(content);
    }
    const socket = new WebSocket(`${url}/${n}`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => hear(take(data));
    socket.onclose = () => done();
    socket.onopen = () => socket.send("go");
  });
  requestAnimationFrame(probe);
  await Promise.all(Array.from({ length: chats }, (_, n) => one(n)));
  going = false;
  await wb.frame();
  const shown = [...document.querySelectorAll(trait === "plain" ? "pre" : ".wb-md")].map((e) => e.textContent.length);
  return { gaps, shown };
}
"""

REST = """
async (ms) => {
  wb.show();
  const gaps = [], begun = await new Promise(requestAnimationFrame);
  for (let last = begun, now; last - begun < ms; last = now) {
    now = await new Promise(requestAnimationFrame);
    gaps.push(now - last);
  }
  return gaps;
}
"""

SCROLL = """
async ({ parts, count, by, frames }) => {
  const text = (n) => (n % 2 ? parts[n % parts.length].slice(0, 80) : parts[n % parts.length]);
  const entry = (n) => ({ message_id: `m${n}`, role: n % 2 ? "user" : "assistant", status: "complete", text: text(n) });
  const range = (from, to) => Array.from({ length: to - from }, (_, i) => entry(from + i));
  let before = count - 99;
  const model = wb.show({ snap: { messages: range(before, count + 1), earlier: before - 1 } });
  while (before > 1) {
    const from = Math.max(1, before - 400); // as many as Python sends at a time
    model.receive({ t: "older", before: `m${before}`, earlier: from - 1, messages: range(from, before) });
    before = from;
    await wb.frame();
  }
  const log = document.querySelector(".wb-log");
  const gaps = [], seen = new Set();
  let last = await new Promise(requestAnimationFrame);
  let most = 0;
  for (const step of [-by, by])
    for (let n = 0; n < frames; n++) {
      log.scrollTop += step;
      const now = await new Promise(requestAnimationFrame);
      gaps.push(now - last);
      last = now;
      const there = document.querySelectorAll("article");
      most = Math.max(most, there.length);
      for (const each of [there[0], there[there.length - 1]]) seen.add(each);
    }
  return { gaps, most, windows: seen.size / 2 };
}
"""


class Shown(NamedTuple):
    """What showing replies took."""

    bytes: int
    frames_sent: int
    browser_seconds: float
    script_seconds: float
    seconds: float
    gaps_ms: list[float]

    @property
    def fps(self) -> float:
        return 1000 * len(self.gaps_ms) / sum(self.gaps_ms)


def reply(tokens: int) -> list[str]:
    """Return a reply of Markdown, four characters a token: headings, lists, tables, code."""
    rng = random.Random(20261123)

    def words(n: int) -> str:
        return " ".join(rng.choices(WORDS, k=n))

    parts: list[str] = []
    while sum(map(len, parts)) < tokens * 4:
        parts += [
            f"## {words(4)}\n\n{words(60)}, **{words(3)}** and `{words(1)}`.\n\n",
            "".join(f"- {words(9)}\n  - {words(5)}\n" for _ in range(4)) + "\n",
            "| day | model | cost |\n|---|---|--:|\n"
            + "".join(f"| {n} | {words(2)} | {n} |\n" for n in range(6))
            + "\n",
            f"```python\ndef f(x):\n    return x + {rng.randint(1, 99)}  # {words(6)}\n```\n\n> {words(20)}\n\n",
        ]
    text = "".join(parts)[: tokens * 4]
    return [text[at : at + 4] for at in range(0, len(text), 4)]


class Kernel:
    """Plays the kernel: sends what widgets would, and counts what went over the websocket."""

    def __init__(self, tokens: list[str], *, trait: str) -> None:
        self.tokens = tokens
        self.trait = trait
        self.bytes = self.frames = 0
        self._session = Session(key=b"")
        self._parent = self._session.msg_header("comm_msg")

    def frame(self, data: dict[str, Any]) -> bytes:
        """A message of a widget as it is on the websocket."""
        content = {"comm_id": "0123456789abcdef0123456789abcdef", "data": data}
        message = self._session.msg("comm_msg", content, parent=self._parent, metadata={"version": "2.1.0"})
        return bytes(serialize_msg_to_ws_v1(message, "iopub", self._session.pack))

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0, compress=False)
        await socket.prepare(request)
        assert (await socket.receive()).type is WSMsgType.TEXT
        frames: asyncio.Queue[bytes | None] = asyncio.Queue()

        def send(data: dict[str, Any]) -> None:
            frames.put_nowait(self.frame(data))

        writing = asyncio.create_task(self._write(socket, frames))
        await (self._sync if self.trait else self._stream)(send, request.match_info["chat"])
        frames.put_nowait(None)
        await writing
        await socket.close()
        return socket

    async def _write(self, socket: web.WebSocketResponse, frames: asyncio.Queue[bytes | None]) -> None:
        while (frame := await frames.get()) is not None:
            self.bytes += len(frame)
            self.frames += 1
            await socket.send_bytes(frame)

    async def _stream(self, send: Send, chat: str) -> None:
        def say(message: dict[str, Any]) -> None:
            send({"method": "custom", "content": message})

        loop = asyncio.get_running_loop()
        turn, message_id = f"turn-{chat}", f"message-{chat}"
        ids = {"turn": turn, "message_id": message_id}
        say({"t": "start", **ids, "user_message_id": f"question-{chat}", "text": "hi", "model": "m", "title": "Bench"})
        batches = Batches(turn, say, loop)
        begun = loop.time()
        for n, token in enumerate(self.tokens):
            await _until(begun + n / A_SECOND)
            batches.add([Delta(token, kind="text", index=0)])
            if n % A_SECOND == 0:
                counts = {"input_tokens": 20, "output_tokens": n, "cache_read": 0, "cache_write": 0}
                say({"t": "usage", "turn": turn, **counts, "cost_usd": "0.0001"})
        batches.flush()
        length = sum(map(len, self.tokens))
        ending = {"status": "complete", "stop_reason": "end_turn", "len": length, "footer": "m · 1 s"}
        say({"t": "end", **ids, **ending, "chat_cost_usd": "0.05"})

    async def _sync(self, send: Send, _: str) -> None:
        begun = asyncio.get_running_loop().time()
        text = ""
        for n, token in enumerate(self.tokens):
            await _until(begun + n / A_SECOND)
            text += token
            send({"method": "update", "state": {"text": text}, "buffer_paths": []})


async def _until(moment: float) -> None:
    wait = moment - asyncio.get_running_loop().time()
    if wait > 0:
        await asyncio.sleep(wait)


async def show(browser: Browser, tokens: list[str], *, trait: str = "", chats: int = 1) -> Shown:
    """Let a page of its own show a reply in each of so many chats."""
    kernel = Kernel(tokens, trait=trait)
    app = web.Application()
    app.router.add_get("/{chat}", kernel.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        settings = {"url": f"ws://{host}:{port}", "chats": chats, "trait": trait}
        seen, spent = await _evaluated(browser, PAGE, settings)
    finally:
        await runner.cleanup()
    whole = sum(map(len, tokens))
    assert len(seen["shown"]) == chats
    assert all(length > whole / 2 for length in seen["shown"]), seen["shown"]  # it is there, less its markup
    return Shown(kernel.bytes, kernel.frames, *spent, seen["gaps"])


async def rest(browser: Browser) -> Shown:
    """Let a page show a box in which nothing arrives, for as long as the replies take."""
    gaps, spent = await _evaluated(browser, REST, 1000 * TOKENS / A_SECOND)
    return Shown(0, 0, *spent, gaps)


async def scroll(browser: Browser) -> Shown:
    """Let a page scroll through a long chat."""
    parts = [f"## {part}"[:1000] for part in "".join(reply(TOKENS)).split("## ")[1:-1]]
    settings = {"parts": parts, "count": MESSAGES, "by": SCROLLED, "frames": SCROLL_FRAMES}
    seen, spent = await _evaluated(browser, SCROLL, settings)
    assert seen["most"] <= 60
    assert seen["windows"] > 20, seen["windows"]  # others came and went
    return Shown(0, 0, *spent, seen["gaps"])


async def _evaluated(browser: Browser, script: str, argument: Any) -> tuple[Any, list[float]]:
    """What a script returns in a page of its own, and the seconds of main thread, of scripts and of the wall."""
    page = await browser.new_page()
    try:
        files = {"source": "chat.js", "css": "chat.css"}
        loaded = {name: (STATIC / file).read_text(encoding="utf-8") for name, file in files.items()}
        await page.evaluate(HARNESS, loaded | {"traits": {}})
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("Performance.enable")
        before = await _metrics(devtools)
        seen = await page.evaluate(script, argument)
        after = await _metrics(devtools)
    finally:
        await page.close()
    return seen, [after[name] - before[name] for name in ("TaskDuration", "ScriptDuration", "Timestamp")]


async def _metrics(devtools: Any) -> dict[str, float]:
    answer = await devtools.send("Performance.getMetrics")
    return {each["name"]: each["value"] for each in answer["metrics"]}


def report(rows: dict[str, Shown], scrolled: Shown) -> None:
    """Print the figures of all, then ours with their targets."""
    print(f"  {'':26}{'MB':>8}{'frames':>8}{'browser s':>11}{'script s':>10}{'wall s':>8}{'fps':>7}{'worst ms':>10}")
    for name, row in rows.items():
        print(
            f"  {name:26}{row.bytes / 1e6:8.2f}{row.frames_sent:8}{row.browser_seconds:11.2f}{row.script_seconds:10.2f}"
            f"{row.seconds:8.1f}{row.fps:7.1f}{max(row.gaps_ms):10.1f}"
        )
    ours, theirs, three = rows[DELTAS], rows[TRAIT], rows[THREE]
    print(f"\n  {'':58}{'figure':>10}{'target':>10}")
    _figure("bytes, of those of the trait", ours.bytes / theirs.bytes, most=1 / 50)
    _figure("browser time, of that of the trait", ours.browser_seconds / theirs.browser_seconds, most=1 / 4)
    _figure("browser time, of that of the trait in plain text", ours.browser_seconds / rows[PLAIN].browser_seconds)
    for name, row in ((DELTAS, ours), (THREE, three), (f"{MESSAGES:,} messages scrolled", scrolled)):
        _figure(f"{name}: frames a second", row.fps, least=55)
        _figure(f"{name}: longest frame, ms", max(row.gaps_ms), most=100)


def _figure(what: str, figure: float, *, most: float | None = None, least: float | None = None) -> None:
    if most is None and least is None:
        print(f"  {what:58}{figure:10.3g}")
        return
    target = f"≤ {most:g}" if most is not None else f"≥ {least:g}"
    met = (most is None or figure <= most) and (least is None or figure >= least)
    print(f"  {what:58}{figure:10.3g}{target:>10}  {'met' if met else 'missed'}")


async def measure() -> None:
    tokens = reply(TOKENS)
    load = os.getloadavg()[0]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), headless=True, args=FLAGS)
        await show(browser, tokens[:200])  # compiled, cached
        rows = {
            DELTAS: await show(browser, tokens),
            TRAIT: await show(browser, tokens, trait="markdown"),
            PLAIN: await show(browser, tokens, trait="plain"),
            THREE: await show(browser, tokens, chats=3),
            IDLE: await rest(browser),
        }
        scrolled = await scroll(browser)
        await browser.close()
    loads = f"load average {load:.1f} before, {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} cores"
    print(f"{TOKENS} tokens of Markdown at {A_SECOND} a second; {loads}")
    report(rows, scrolled)


def main() -> None:
    asyncio.run(measure())
