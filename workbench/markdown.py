"""Markdown of a model as HTML that is safe to show.

What a model writes is not to be trusted, and in a cell that was just run JupyterLab shows Markdown with whatever HTML is in
it, scripts included. So it is rendered here: raw HTML becomes text, images become links, and links lead to http, https
and mail only.
"""

from __future__ import annotations

from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt


def safe_html(markdown: str, footer: str = "") -> str:
    r"""Return Markdown, and a quiet line under it, as HTML that cannot run, load, submit or style anything.

    >>> safe_html("<b>hi</b> ![x](https://example.com/?q=secret)")
    '<p>&lt;b&gt;hi&lt;/b&gt; !<a href="https://example.com/?q=secret" rel="noopener noreferrer">x</a></p>\n'
    """
    html = str(_renderer().render(markdown))
    if footer:
        html += f'<div style="opacity: 0.65; font-size: 85%">{escape(footer)}</div>\n'
    return html


@cache
def _renderer() -> MarkdownIt:
    from markdown_it import MarkdownIt  # on use: no script needs it

    renderer = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
    renderer.validateLink = _is_harmless  # type: ignore[method-assign]
    renderer.add_render_rule("link_open", _link_open)
    return renderer


def _link_open(self: Any, tokens: Any, at: int, options: Any, env: Any) -> str:
    tokens[at].attrSet("rel", "noopener noreferrer")
    return str(self.renderToken(tokens, at, options, env))


def _is_harmless(url: str) -> bool:
    return url.strip().lower().startswith(("http://", "https://", "mailto:"))
