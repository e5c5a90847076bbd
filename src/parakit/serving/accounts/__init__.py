"""Keys with quotas, prices, and the ledger of what each request used. SQLite, no web framework, no torch."""
