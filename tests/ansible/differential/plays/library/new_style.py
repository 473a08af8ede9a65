#!/usr/bin/python
from __future__ import absolute_import, division, print_function
__metaclass__ = type

import os
import sys

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.beside import where
from ansible.module_utils.package.inner import deep
from ansible.module_utils import package


def main():
    module = AnsibleModule(
        argument_spec=dict(
            text=dict(type='str', default='none'), count=dict(type='int', default=1), flag=dict(type='bool', default=False),
            items=dict(type='list', elements='str', default=[]), data=dict(type='dict', default={}), path=dict(type='path'),
            raw=dict(type='raw'), size=dict(type='bytes'), ratio=dict(type='float'), password=dict(type='str', no_log=True),
            choice=dict(type='str', choices=['a', 'b']), old=dict(type='str', aliases=['older'], removed_in_version='9.9', removed_from_collection='x.y'),
            sub=dict(type='list', elements='dict', options=dict(name=dict(required=True), level=dict(type='int', default=3))),
            env=dict(type='str', fallback=None) if False else dict(type='str'),
        ),
        mutually_exclusive=[('count', 'ratio')] if False else [], required_if=[('choice', 'b', ['path'])], supports_check_mode=True,
        add_file_common_args=True,
    )
    params = module.params
    if params['text'] == 'warn':
        module.warn('a warning of the module')
        module.deprecate('a deprecation of the module', version='9.9', collection_name='x.y')
    if params['text'] == 'fail':
        module.fail_json(msg='failed as asked', extra=[1, 2, {'three': None}])
    if params['text'] == 'raise':
        raise ValueError('raised as asked: \u00e9')
    if params['text'] == 'hook':
        sys.excepthook = lambda kind, value, trace: module.fail_json(msg='the hook says: %s' % value)
        raise ValueError('raised for the hook')
    if params['text'] == 'broken hook':
        sys.excepthook = lambda kind, value, trace: 1 // 0
        raise ValueError('raised for a broken hook')
    if params['text'] == 'bare exit':
        sys.exit(3)
    if params['text'] == 'fall through':
        return
    if params['text'] == 'run':
        rc, out, err = module.run_command(['sh', '-c', 'echo out; echo err >&2; exit 7'], environ_update={'X': 'y'})
        module.exit_json(changed=True, rc_seen=rc, out=out, err=err, tmpdir_there=os.path.isdir(module.tmpdir),
                         tmpdir_mode=oct(os.stat(module.tmpdir).st_mode & 0o7777))
    if params['text'] == 'libs':
        module.exit_json(text=missing_required_lib('nonesuch'), where=where(), deep=deep(), version=package.VERSION, name=module._name)
    module.exit_json(changed=params['flag'], seen=dict((key, value) for key, value in params.items() if value is not None), check=module.check_mode,
                     diff=dict(before='a\n', after='b\n') if module._diff else None, unicode=u'\u00e9\u4e2d\U0001f600', nul='a\u0000b',
                     env=os.environ.get('FROM_TASK'), name=__name__, argv=len(sys.argv), verbosity=module._verbosity)


if __name__ == '__main__':
    main()
