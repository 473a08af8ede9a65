"""Run ansible-core's own integration targets over ssh and over pmitogen: ``python -m tests.core_targets --help``.

=============  ===========================================================================================
``targets``    the targets that run by default, and their expectations that hold over ssh only
``sources``    the source release of each installed ansible-core, and the packages that its targets need
``machine``    a copy-on-write image of this machine, with its own network, processes and host name
``play``       one target or playbook over one connection; runs in such an image
``compare``    the results of the two runs, task by task
=============  ===========================================================================================

Targets add accounts, change files of the system and start services. Therefore each run has its own image, which ends with all
its processes and files and has no access to the machine or the network. It needs root and 1 GB of memory.
"""
