"""Hostile peers: servers, agents and clients that violate the protocols, next to an honest host whose tasks must go on."""
