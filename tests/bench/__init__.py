"""Benchmarks: what the promises of speed rest on. ``python -m tests.bench`` runs them all.

Each module here that has a ``main()`` is one. It prints its figures and one line that begins with ``ratio:``, which
sets them against a named baseline measured in the same run: on another machine, or a busy one, only ratios compare.
"""
