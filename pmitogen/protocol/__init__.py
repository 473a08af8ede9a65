"""The protocol between client, hub, agent and runner."""
