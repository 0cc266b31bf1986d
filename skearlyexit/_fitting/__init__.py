"""From a specification to a cascade."""
