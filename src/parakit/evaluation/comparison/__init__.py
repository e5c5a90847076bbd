"""Is one model better than another: paired tests on the same items, of scores that belong to one protocol."""
