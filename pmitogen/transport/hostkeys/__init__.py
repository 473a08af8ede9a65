"""Host keys: which are known, revoked or signed, and which algorithms are offered for them.

``verify.py`` checks the key of a server.
"""
