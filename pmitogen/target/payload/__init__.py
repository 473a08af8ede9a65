"""Python payloads: their modules in memory, the children that run them, and what is prepared before the next one."""
