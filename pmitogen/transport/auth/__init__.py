"""Authentication of the user: the credentials, the order in which they are tried, and the report.

``authenticate.py`` is the entry; ``credentials.py`` has the types of the secrets.
"""
