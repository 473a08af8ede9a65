"""The agent: the process between the hub's channel and the runners of one host's accounts."""
