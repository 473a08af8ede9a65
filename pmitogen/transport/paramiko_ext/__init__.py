"""Extensions of Paramiko: limits, algorithms and messages that it lacks. Only this package uses its private names.

``transport.py`` is the SSH transport, ``channel.py`` a channel.
"""
