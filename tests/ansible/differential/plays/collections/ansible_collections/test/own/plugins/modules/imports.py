#!/usr/bin/python
from __future__ import absolute_import, division, print_function
__metaclass__ = type

import pkgutil
import sys

import ansible_collections
from ansible.module_utils import import_probe
from ansible.module_utils.basic import AnsibleModule
from ..module_utils.sub import there


class Own(import_probe.Thing):
    """For pickle."""


def own(number):
    return number + 1


def main():
    module = AnsibleModule(argument_spec=dict())
    root = _modlib_path  # noqa: F821
    name = 'ansible_collections.test.own.plugins.module_utils'
    names = ['ansible_collections', 'ansible_collections.test', 'ansible_collections.test.own', name, name + '.sub', there.__name__]
    found = {
        'modules': dict((each, import_probe.describe(sys.modules[each])) for each in names),
        'top': [list(entry)[1:] for entry in pkgutil.iter_modules(ansible_collections.__path__)],
        'walked': [list(entry)[1:] for entry in pkgutil.walk_packages(ansible_collections.__path__, 'ansible_collections.')],
        'resources': import_probe.resources(name + '.sub', 'there.py'),
        'all': import_probe.report(sys.modules['__main__'], own, Own(5), root),
    }
    module.exit_json(found=import_probe.plain(found, root))


if __name__ == '__main__':
    main()
