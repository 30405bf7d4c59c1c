"""HTTP around the same engine: routes, identity, server-sent events, errors, logs."""
