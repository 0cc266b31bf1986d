"""A package, so that no other that calls itself `tests` is taken for it."""
