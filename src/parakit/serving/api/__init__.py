"""The HTTP API: one module a form. Requests are checked by pydantic models, answers are plain JSON."""
