"""One module per subject; a route translates a request for the engine, and its result for the client."""
