"""``%load_ext workbench``: ``%%chat`` asks what is in the cell, ``%chat_usage`` shows what this notebook's chat used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from workbench.chat import Chat, ReplyStream
from workbench.errors import ConfigurationError, InvalidRequest, PromptError
from workbench.ledger import usage
from workbench.prompts.text import values_of
from workbench.show import display_for

if TYPE_CHECKING:
    import pandas as pd
    from IPython.core.interactiveshell import InteractiveShell

    from workbench.turns import Reply


def _unquoted(argument: str) -> str:
    """Return an argument without the quotes around it, which IPython leaves there."""
    return argument[1:-1] if argument[:1] in ("'", '"') and argument[1:].endswith(argument[0]) else argument


@magics_class
class ChatMagics(Magics):  # type: ignore[misc]  # IPython has no types
    """The magics of one notebook; its cells share a chat until one says ``--new``."""

    chat: Chat | None = None

    @magic_arguments()
    @argument("--new", action="store_true", help="begin a new chat")
    @argument("--model", type=_unquoted, help="who answers this cell: a model id, or local")
    @argument("--system", type=_unquoted, help="system prompt of the chat; begins a new one")
    @argument("--prompt", type=_unquoted, help="named prompt of the chat, such as support@production; begins a new one")
    @argument(
        "--var",
        type=_unquoted,
        action="append",
        metavar="NAME=VALUE",
        help="what to put in for a variable of the prompt; repeat it",
    )
    @cell_magic("chat")
    def ask(self, line: str, cell: str) -> Reply:
        """Ask Claude what the cell says; the chat remembers the cells before."""
        arguments = parse_argstring(self.ask, line)
        chat = self.chat
        if chat is None or arguments.new or arguments.system is not None or arguments.prompt is not None:
            values = None if arguments.var is None else values_of(arguments.var)
            chat = Chat(system=arguments.system, prompt=arguments.prompt, variables=values)
        elif arguments.var is not None:
            raise InvalidRequest("--var is for the prompt of a new chat; name it with --prompt")
        stream = ReplyStream(chat, cell.strip(), arguments.model, None, display_for(True), "magic")
        before, self.chat = self.chat, chat
        try:
            for _ in stream:
                pass
        except (PromptError, ConfigurationError):
            self.chat = before  # the new one never began
            raise
        return stream.reply

    @line_magic("chat_usage")
    def usage(self, line: str) -> pd.DataFrame:
        """Show what each turn of the chat used, or, with names like ``day model``, all usage summed up by them."""
        if by := line.replace(",", " ").split():
            return usage(by=by)
        if self.chat is None:
            raise InvalidRequest("no chat has begun in this notebook; ask something in a cell that starts with %%chat")
        columns = ["started_at", "model", "input_tokens", "cache_read_tokens", "output_tokens", "cost_usd", "status"]
        return usage(chat=self.chat)[columns]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics; called by ``%load_ext workbench``."""
    shell.register_magics(ChatMagics)
