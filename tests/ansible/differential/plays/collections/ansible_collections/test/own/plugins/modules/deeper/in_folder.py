#!/usr/bin/python
from __future__ import absolute_import, division, print_function
__metaclass__ = type

import os
import pkgutil

from ansible.module_utils.basic import AnsibleModule
from ...module_utils.sub.there import PLACE


def main():
    module = AnsibleModule(argument_spec=dict())
    loader_data = pkgutil.get_data('ansible.module_utils', 'basic.py')
    module.exit_json(changed=False, place=PLACE, data=bool(loader_data), name=os.path.basename(__file__))


if __name__ == '__main__':
    main()
