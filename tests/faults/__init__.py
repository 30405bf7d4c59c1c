"""The scripted upstream; see ``upstream.py`` for its public names."""
