"""Python payloads: their modules in memory, the children that run them, and the preparations for the next one."""
