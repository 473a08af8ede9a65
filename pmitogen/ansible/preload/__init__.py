"""Work that the main process of ``ansible-playbook`` does once, before it forks workers.

It begins in ``before_fork.py``.
"""
