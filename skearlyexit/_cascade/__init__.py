"""Fitted network, exit rule and costs as one object."""
