"""The server and the studio: Parakit's models behind an HTTP API, and pages in a browser."""
