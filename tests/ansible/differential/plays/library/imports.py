#!/usr/bin/python
from __future__ import absolute_import, division, print_function
__metaclass__ = type

import sys

from ansible.module_utils import import_probe
from ansible.module_utils.basic import AnsibleModule


class Own(import_probe.Thing):
    """For pickle."""


def own(number):
    return number + 1


def main():
    module = AnsibleModule(argument_spec=dict())
    root = _modlib_path  # noqa: F821
    found = import_probe.report(sys.modules['__main__'], own, Own(5), root)
    module.exit_json(found=import_probe.plain(found, root), prefix=root[:1])


if __name__ == '__main__':
    main()
