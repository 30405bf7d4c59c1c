"""The workbench inside notebooks: the chat box and the magics."""
