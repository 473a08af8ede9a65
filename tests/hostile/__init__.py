"""Peers that break every rule: programs with lists of misbehaviours, and an honest host whose tasks must go on."""
