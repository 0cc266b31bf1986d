"""How a cascade is executed."""
