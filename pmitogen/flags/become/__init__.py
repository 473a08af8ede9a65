"""Options of sudo, su and doas, and the plan of an escalation that they make.

``plan.py`` is the entry; ``sudo.py``, ``su.py`` and ``doas.py`` have the options of each program.
"""
