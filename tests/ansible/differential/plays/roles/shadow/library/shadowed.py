#!/usr/bin/python
from __future__ import absolute_import, division, print_function
__metaclass__ = type

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common import _utils
from ansible.module_utils.common.sys_info import get_platform_subclass


def main():
    module = AnsibleModule(argument_spec=dict())
    module.exit_json(changed=False, shadow=getattr(_utils, 'SHADOW', 'none'), used=get_platform_subclass.__globals__['get_all_subclasses'].__module__,
                     same=get_platform_subclass.__globals__['get_all_subclasses'] is _utils.get_all_subclasses)


if __name__ == '__main__':
    main()
