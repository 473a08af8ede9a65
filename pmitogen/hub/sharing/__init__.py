"""Which option sets use the same connection, within a run and between runs."""
