"""Where chats and usage are kept."""

from workbench.store.store import Store

__all__ = ["Store"]
