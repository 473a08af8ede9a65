#!/usr/bin/python
from __future__ import annotations

import subprocess
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import get_env_with_pythonpath
from ansible.module_utils.embed import EmbedManager

embedded = EmbedManager.embed('ansible.module_utils._embed', 'dnf.py')


def main():
    module = AnsibleModule(argument_spec=dict())
    with embedded.path_context_manager as path:
        size, suffix, name = len(path.read_bytes()), path.suffix, type(path).__name__
    command = [sys.executable, '-c', 'import %s as it; print(it.__name__)' % embedded.python_module_ref]
    said = subprocess.run(command, env=get_env_with_pythonpath(), capture_output=True, text=True)
    module.exit_json(size=size, suffix=suffix, name=name, ref=embedded.python_module_ref, said=said.stdout, rc=said.returncode)


if __name__ == '__main__':
    main()
