"""Runs the test suites of OpenSSH, rsync and git with pmitogen's commands: ``python -m tests.other_suites --help``.

=============  ===========================================================================================
``commands``   the programs of ``pmitogen setup --shims``, and namespaces for tests
``openssh``    OpenSSH's regress scripts with all of our programs, and which of them do not apply
``rsync``      rsync's tests with our ssh to a real sshd as the remote shell
``git``        git's tests with our ssh to a real sshd in place of its fake ssh
=============  ===========================================================================================

They need root, the source of the suite, a C compiler, and the sshd, rsync or git of this machine. The source should be of the
version that is installed: ``git archive V_9_2_P1``, say. Each test has a network and processes of its own.
"""
