"""The connection plugin for Ansible, in the processes of ``ansible-playbook``.

Ansible loads ``plugins/connection/pmitogen.py``, which has the documentation of the options; ``connection.py`` does the work.
"""
