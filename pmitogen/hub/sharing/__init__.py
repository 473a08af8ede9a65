"""Sharing of connections between option sets, within a run and between runs."""
