"""From what a user passes in to samples: validation, lazily read arrays, chunks, splits."""
