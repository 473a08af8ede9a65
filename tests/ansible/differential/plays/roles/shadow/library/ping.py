#!/usr/bin/python
from __future__ import absolute_import, division, print_function
__metaclass__ = type

from ansible.module_utils.basic import AnsibleModule


def main():
    AnsibleModule(argument_spec=dict()).exit_json(changed=False, ping='of the role')


if __name__ == '__main__':
    main()
