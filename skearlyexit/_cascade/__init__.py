"""The fitted object as passive data, and the rule by which samples exit."""
