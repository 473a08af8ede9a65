#!/usr/bin/python
from __future__ import absolute_import, division, print_function
__metaclass__ = type

import sys

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, probe_interpreters_for_module, respawn_module


def main():
    module = AnsibleModule(argument_spec=dict(interpreter=dict(default=''), text=dict(), probe=dict()), supports_check_mode=True)
    if module.params['probe']:
        module.exit_json(found=probe_interpreters_for_module([sys.executable, '/nonexistent'], module.params['probe']) == sys.executable)
    if module.params['interpreter'] and not has_respawned():
        respawn_module(module.params['interpreter'])
    module.exit_json(changed=False, respawned=has_respawned(), text=module.params['text'], version=list(sys.version_info[:2]), check=module.check_mode)


if __name__ == '__main__':
    main()
