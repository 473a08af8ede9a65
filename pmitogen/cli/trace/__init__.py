"""``pmitogen trace``: show where the time of a run went, from the timeline that ``PMITOGEN_TRACE=FILE`` has written."""
