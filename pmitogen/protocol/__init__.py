"""The protocol between client, hub, agent and runner.

``framing.py`` reads and writes frames. ``messages_from_client.py`` and ``messages_from_agent.py`` have a type for each message of
a peer, and ``message_checks.py`` checks received messages against these types. ``messages_to_client.py``,
``messages_to_agent.py``, ``requests.py`` and ``escalation_plan.py`` serve type checkers only.
``gate.py`` admits the messages of an agent, and ``answers.py`` lists the possible answers to each request. ``exchange.py`` is the
client's side of one request. ``error_kinds.py`` turns exceptions into frames and back. PROTOCOL.md is made from the tables.
"""
