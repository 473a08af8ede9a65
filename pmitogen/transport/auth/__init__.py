"""Authentication of the user: which credentials are tried, in which order, and what is reported.

``authenticate.py`` is the entry; ``credentials.py`` has the types of the secrets.
"""
