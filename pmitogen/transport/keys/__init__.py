"""Keys: files, agents and tokens that hold them, and their formats.

``key_file.py`` reads identity files, ``ssh_agent_client.py`` uses an agent, and ``pkcs11_token.py`` a token.
"""
