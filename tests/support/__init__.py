"""Support for tests: real servers, real accounts, and a check for resources that a test leaves behind.

===============  ============================================================================================
``init``         makes the test run a process family: every orphan stays its child, and no process survives the run
``session``      the private directory of the run, its client key, and the clean environment
``processes``    families of processes, read from /proc
``leaks``        resources left by a test: processes, threads, sockets, files
``keys``         SSH keys in files
``sshd``         a private OpenSSH server
``accounts``     temporary accounts with passwords, sudoers rows and doas rows
``programs``     locations of Pythons of a version, and of other programs, on this machine
``ansible``      runs ansible-playbook of any installed ansible-core and reads every task's result
===============  ============================================================================================

The fixtures for these are listed at the head of ``tests/conftest.py``.
"""
