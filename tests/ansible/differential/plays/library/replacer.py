#!/usr/bin/python
import json
import sys

#<<INCLUDE_ANSIBLE_MODULE_COMMON>>


def main():
    module = AnsibleModule(argument_spec=dict(text=dict()))  # noqa: F821
    module.exit_json(changed=False, text=module.params['text'])


main()
