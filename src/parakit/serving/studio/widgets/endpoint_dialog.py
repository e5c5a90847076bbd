"""The dialog that adds an endpoint with OpenAI's API to a page."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from parakit.common.errors import UserError
from parakit.serving.studio.chatting.endpoints import EndpointSource
from parakit.serving.studio.frame import heading


def endpoint_dialog(on_add: Callable[[str, EndpointSource], object]) -> None:
    """Open it. `on_add` gets the name under which the page shows the endpoint, and the source of its answers."""
    with ui.dialog(value=True) as dialog, ui.card().classes("studio-dialog"):
        heading("An endpoint with OpenAI's API", 2)
        ui.label("Its key is read from the environment variable PARAKIT_API_KEY of the studio.").classes(
            "studio-muted"
        )
        url = (
            ui.input("Address", placeholder="http://127.0.0.1:8000/v1")
            .props("outlined")
            .classes("full-width")
        )
        model = ui.input("Model; empty: the first").props("outlined").classes("full-width")

        def add() -> None:
            address = (url.value or "").strip()
            if not address.startswith(("http://", "https://")):
                raise UserError(f"{address!r} is no address", "begin with http:// or https://")
            source = EndpointSource(address, (model.value or "").strip())
            on_add(f"{source.name} (endpoint)", source)
            dialog.close()

        with ui.element("div").classes("studio-row"):
            ui.button("Add", on_click=add).props("unelevated no-caps")
            ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
