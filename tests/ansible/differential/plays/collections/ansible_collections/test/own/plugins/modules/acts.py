#!/usr/bin/python
from __future__ import absolute_import, division, print_function
__metaclass__ = type

from ansible.module_utils.basic import AnsibleModule
from ..module_utils.sub import there
from ..module_utils.sub.there import PLACE, text_of
from ansible_collections.test.own.plugins.module_utils.moved import PLACE as MOVED


def main():
    module = AnsibleModule(argument_spec=dict(text=dict()))
    module.exit_json(changed=False, place=PLACE, moved=MOVED, package=there.__name__, text=text_of(module.params['text']), name=module._name)


if __name__ == '__main__':
    main()
