"""Plays ansible-core's own integration targets over ssh and over pmitogen: ``python -m tests.core_targets --help``.

=============  ===========================================================================================
``targets``    the targets that are played by default, and what they expect of ssh alone, as data
``sources``    the source release of each installed ansible-core, and the packages that its targets need
``machine``    a copy-on-write image of this machine, with its own network, processes and host name
``play``       one target or playbook over one connection; runs inside such an image
``compare``    the results of the two runs, task by task
=============  ===========================================================================================

Targets add accounts, change files of the system and start services. Each run therefore has an image of its own, which ends with
all its processes and files, and which reaches nothing but itself. It needs root, and 1 GB of memory.
"""
