"""A replacement of community.general.doas, with its name and options, if that collection is not installed."""

DOCUMENTATION = """
name: community.general.doas
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
    default: doas
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

from ansible.plugins.become import BecomeBase


class BecomeModule(BecomeBase):
    name = "community.general.doas"
    fail = ("Authentication failure",)

    def build_become_command(self, cmd, shell):
        super().build_become_command(cmd, shell)
        if not cmd:
            return cmd
        exe, flags, user = (self.get_option(name) for name in ("become_exe", "become_flags", "become_user"))
        command = self._build_success_command(cmd, shell)
        return f"{exe} {flags} -u {user} -- {command}"
