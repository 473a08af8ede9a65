"""What the tests stand on: real servers, real accounts, and a look-out for whatever a test leaves behind.

===============  ============================================================================================
``init``         makes the test run a family: every orphan stays ours, and nothing survives the run
``session``      the run's private folder, its client key, and the clean environment
``processes``    families of processes, read from /proc
``leaks``        what a test left behind: processes, threads, sockets, files
``keys``         SSH keys in files
``sshd``         a private OpenSSH server
``accounts``     temporary accounts with passwords, sudoers rows and doas rows
``programs``     where Pythons of a version, and other programs, are on this machine
``ansible``      runs ansible-playbook of any installed ansible-core and reads every task's result
===============  ============================================================================================

The fixtures made of these are listed at the head of ``tests/conftest.py``.
"""
