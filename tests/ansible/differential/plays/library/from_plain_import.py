#!/usr/bin/python
import json
import os

import ansible.module_utils.basic


if __name__ == '__main__':
    module = ansible.module_utils.basic.AnsibleModule(dict(text=dict()))
    module.exit_json(changed=False, text=module.params['text'], main=__name__, file_there=bool(__file__), cwd_there=os.path.isdir(os.getcwd()))
