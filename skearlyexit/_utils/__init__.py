"""What rooms share and know nothing of."""
