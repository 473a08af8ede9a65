"""Ansible's ssh, Mitogen's strategy and pmitogen, side by side in one run: ``python -m bench --help``.

=================  =========================================================================================
``cases``          the plays, as data
``contenders``     how ansible-playbook is started for each contender
``environment``    one private sshd, one account, one relay
``relay``          a TCP relay, a process of its own, that counts bytes and direction changes, and can add latency
``measure``        one run: its wall time, and the CPU of everything that it started
``results``        medians, and JSON
``goals``          the goals of pmitogen, as data
``stages``         seconds of each layer, from a timeline
``against_floor``  the rows about what is added to the baseline
``optimisations``  the worth of each optimisation, one switched off at a time
``report``         the tables;  ``chart``: the picture
``scale``          memory and time by the number of hosts
=================  =========================================================================================

A *direction change* is one on the wire: two make a round trip. The *baseline* plays ``debug`` in place of each task: the cost of
Ansible itself. The contenders run in rotation within each repetition, so that other load on the machine affects all alike. Wall
and CPU are measured in runs straight against sshd, bytes and direction changes in one more run through the relay; where a case
adds latency, all its runs go through the relay.
"""
