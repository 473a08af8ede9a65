#!/usr/bin/python
from __future__ import absolute_import, division, print_function
__metaclass__ = type

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.of_role import where


def main():
    module = AnsibleModule(argument_spec=dict(text=dict()))
    module.exit_json(changed=module.params['text'] == 'handled', where=where(), text=module.params['text'])


if __name__ == '__main__':
    main()
