"""A become plugin that expects a prompt on a terminal."""

DOCUMENTATION = """
name: asking
short_description: becomes another user
description: For tests.
author: the tests
options:
  become_user:
    description: whom
    default: root
    keyword: [{name: become_user}]
    vars: [{name: ansible_become_user}]
  become_exe:
    description: the program
    default: su
    keyword: [{name: become_exe}]
    vars: [{name: ansible_become_exe}]
  become_flags:
    description: its options
    default: ""
    keyword: [{name: become_flags}]
    vars: [{name: ansible_become_flags}]
  become_pass:
    description: a password
    vars: [{name: ansible_become_password}, {name: ansible_become_pass}]
"""

import shlex

from ansible.plugins.become import BecomeBase


class BecomeModule(BecomeBase):
    name = "asking"
    fail = ("Authentication failure",)
    require_tty = True
    pipelining = False

    def build_become_command(self, cmd, shell):
        super().build_become_command(cmd, shell)
        if not cmd:
            return cmd
        exe, flags, user = (self.get_option(name) for name in ("become_exe", "become_flags", "become_user"))
        command = self._build_success_command(cmd, shell)
        self.prompt = "Password:"
        return f"{exe} {flags} {user} -c {shlex.quote(command)}"
