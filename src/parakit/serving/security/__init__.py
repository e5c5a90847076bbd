"""What stands before every route: host and origin checks, keys, bounds of bodies, slow clients, TLS. Pure ASGI."""
