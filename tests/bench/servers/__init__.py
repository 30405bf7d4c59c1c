"""What the server is compared with; each is a program of its own: ``python -m tests.bench.servers.NAME PORT UPSTREAM``."""
