"""The workbench's engine behind HTTP: ``POST /chat`` and ``POST /chat/stream``."""
