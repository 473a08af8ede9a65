"""Ansible's ssh, Mitogen's strategy and pmitogen, side by side in one run: ``python -m bench --help``.

==============  ==========================================================================================
``cases``       what is played: the plays, as data
``columns``     who plays it: how ansible-playbook is started for each
``rig``         where: one private sshd, one account, one relay
``relay``       a TCP relay, a process of its own, that counts bytes and turns, and can add latency
``measure``     one run: its wall time, and the CPU of everything it started
``results``     medians, and JSON
``goals``       what pmitogen is to reach, as data
``report``      the tables;  ``chart``: the picture
==============  ==========================================================================================

The columns take turns within each repetition, so that whatever else the machine does meets them all alike. Wall and CPU come
from runs straight against sshd, bytes and turns from one more run through the relay; where a case adds latency, all its runs go
through the relay.
"""
