#!/usr/bin/python
"""Return a module's view of its process, to find changes left by an earlier module."""
from __future__ import absolute_import, division, print_function
__metaclass__ = type

import gc
import locale
import os
import resource
import signal
import socket
import sys
import threading

from ansible.module_utils.basic import AnsibleModule


def descriptor(number):
    try:
        target = os.readlink('/proc/self/fd/%d' % number)
    except OSError:
        return 'closed'
    return target.split(':')[0] if ':' in target else target


def main():
    module = AnsibleModule(argument_spec=dict(more=dict(type='bool', default=False), terminal=dict(type='bool', default=True)), supports_check_mode=True)
    mask = os.umask(0o22)
    os.umask(mask)
    handlers = dict((name, str(signal.getsignal(getattr(signal, name)))) for name in ('SIGTERM', 'SIGALRM', 'SIGUSR1', 'SIGCHLD', 'SIGHUP', 'SIGPIPE'))
    env = dict((name, value) for name, value in os.environ.items() if name not in ('SSH_CONNECTION', 'SSH_CLIENT', 'SSH_TTY', 'OLDPWD', '_'))
    terminal = dict(isatty=[os.isatty(number) for number in (0, 1, 2)], stderr_stdout_same=os.fstat(1)[:2] == os.fstat(2)[:2])
    if not module.params['terminal']:
        terminal.clear()
        env.pop('TERM', None)
    module.exit_json(
        changed=False, cwd=os.getcwd(), umask=oct(mask), uid=[os.getuid(), os.geteuid(), os.getgid(), sorted(os.getgroups())], env=env,
        locale=[str(part) for part in locale.getlocale()], preferred=locale.getpreferredencoding(False), handlers=handlers,
        threads=threading.active_count(), limits=[resource.getrlimit(limit) for limit in
                                                  (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_AS, resource.RLIMIT_STACK, resource.RLIMIT_NPROC)],
        nice=os.nice(0), gc=gc.isenabled(),
        recursion=sys.getrecursionlimit(), timeout=socket.getdefaulttimeout(), main=sys.modules['__main__'].__name__, name=__name__,
        encoding=[sys.getfilesystemencoding(), getattr(sys.stdout, 'encoding', None), getattr(sys.stdin, 'encoding', None), getattr(sys.stderr, 'encoding', None)],
        errors=[getattr(sys.stdout, 'errors', None), getattr(sys.stderr, 'errors', None), getattr(sys.stdin, 'errors', None)],
        mask=sorted(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])) if hasattr(signal, 'pthread_sigmask') else [],
        argv0=bool(sys.argv), executable=sys.executable, prefix=sys.prefix, flags=str(sys.flags), hook=sys.excepthook.__name__,
        extra_descriptors=len([name for name in os.listdir('/proc/self/fd') if int(name) > 2]) < 4,
        warn=repr(getattr(sys, 'warnoptions', None)), stdin_read=sys.stdin.read() if module.params['more'] else None,
        displayhook=sys.displayhook.__name__,
        path_has_cwd='' in sys.path, dont_write=sys.dont_write_bytecode, **terminal
    )


if __name__ == '__main__':
    main()
