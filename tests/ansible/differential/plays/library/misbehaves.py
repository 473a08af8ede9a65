#!/usr/bin/python
"""A module that does what no module should do; the argument ``how`` selects the fault."""
from __future__ import absolute_import, division, print_function
__metaclass__ = type

import atexit
import builtins
import gc
import json
import locale
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

from ansible.module_utils.basic import AnsibleModule
import ansible.module_utils.basic as basic


def spoil(how, module):
    if how == 'print before':
        print('words before the answer')
    elif how == 'print bytes before':
        os.write(1, b'\xff\xfe not text\n')
    elif how == 'json before':
        print(json.dumps({'changed': True, 'msg': 'another answer'}))
    elif how == 'print after':
        atexit.register(lambda: print('words after the answer'))
    elif how == 'print brace after':
        atexit.register(lambda: print('} and more'))
    elif how == 'stderr':
        sys.stderr.write('noise on stderr\n' * 100)
    elif how == 'much stderr':
        sys.stderr.write('x' * 300000)
    elif how == 'much stdout':
        print('x' * 300000)
    elif how == 'no answer':
        os._exit(0)
    elif how == 'exit 5':
        os._exit(5)
    elif how == 'print and os._exit':
        sys.stdout.write('{"changed": false, "said": "not flushed"}')
        sys.stdout.flush()
        os._exit(4)
    elif how in ('SIGTERM', 'SIGKILL', 'SIGSEGV', 'SIGABRT', 'SIGHUP', 'SIGINT', 'SIGALRM'):
        os.kill(os.getpid(), getattr(signal, how))
        time.sleep(5)
    elif how == 'chdir':
        os.chdir('/usr')
    elif how == 'chdir gone':
        place = '/tmp/pmt-gone-%d' % os.getpid()
        os.mkdir(place)
        os.chdir(place)
        os.rmdir(place)
    elif how == 'umask':
        os.umask(0o777)
    elif how == 'locale':
        locale.setlocale(locale.LC_ALL, 'C')
        os.environ['LC_ALL'] = 'nonsense'
    elif how == 'environment':
        os.environ.clear()
        os.environ['PATH'] = '/nowhere'
    elif how == 'uid':
        os.setgid(65534)
        os.setuid(65534)
        os.write(1, b'{"changed": false, "said": "another account"}')
        os._exit(0)
    elif how == 'signals':
        for name in ('SIGTERM', 'SIGALRM', 'SIGUSR1', 'SIGCHLD', 'SIGPIPE', 'SIGHUP'):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
    elif how == 'limits':
        resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.nice(5)
    elif how == 'memory':
        resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
        keep = []
        while True:
            keep.append(bytearray(50 << 20))
    elif how == 'descriptors':
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        keep = []
        try:
            while True:
                keep.append(os.open(os.devnull, os.O_RDONLY))
        except OSError as exc:
            os.write(1, b'{"changed": false, "said": "%d"}' % exc.errno)
            os._exit(0)
    elif how == 'close 0':
        os.close(0)
    elif how == 'close 2':
        os.close(2)
    elif how == 'close 1':
        os.close(1)
    elif how == 'close all':
        os.closerange(3, 256)
    elif how == 'stdout object':
        sys.stdout.close()
    elif how == 'threads':
        for number in range(3):
            thread = threading.Thread(target=time.sleep, args=(1.0,))
            thread.daemon = number != 0
            thread.start()
    elif how == 'daemon':
        if os.fork() == 0:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)
            time.sleep(2)
            with open(module.params['path'], 'w') as stream:
                stream.write('the daemon lived\n')
            os._exit(0)
    elif how == 'child keeps pipe':
        if os.fork() == 0:
            time.sleep(1.5)
            os.write(1, b'late words of a child\n')
            os._exit(0)
    elif how == 'globals':
        basic.AnsibleModule.exit_json = None
        basic._load_params = None
        builtins.open = None
        builtins.spoiled = True
        json.dumps = None
        sys.path[:] = []
        sys.setrecursionlimit(60)
        socket.setdefaulttimeout(0.001)
        gc.disable()
        sys.excepthook = None
        os.write(1, b'{"changed": false, "said": "globals spoiled"}')
        os._exit(0)
    elif how == 'modules':
        sys.modules.clear()
        os.write(1, b'{"changed": false, "said": "modules cleared"}')
        os._exit(0)
    elif how == 'subprocess':
        subprocess.Popen(['sh', '-c', 'sleep 1; echo late >&2'])
    elif how == 'recursion':
        spoil(how, module)
    elif how == 'system exit text':
        sys.exit('an exit with text')
    elif how == 'keyboard interrupt':
        raise KeyboardInterrupt()
    elif how == 'exit twice':
        try:
            module.exit_json(changed=False, first=True)
        except SystemExit:
            pass
    elif how == 'terminal':
        try:
            open('/dev/tty').close()
            sys.stderr.write('there is a terminal\n')
        except (IOError, OSError):
            sys.stderr.write('there is no terminal\n')
    elif how == 'group':
        os.setpgid(0, 0) if os.getpid() != os.getsid(0) else None
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(os.getpgid(0), signal.SIGTERM)
    elif how == 'bad json':
        print('{"changed": false, "unfinished": ')
        sys.exit(0)
    elif how == 'json list':
        print('[1, 2, 3]')
        sys.exit(0)
    elif how == 'invalid utf-8 in json':
        os.write(1, b'{"changed": false, "said": "\xff\xe9"}')
        os._exit(0)
    elif how == 'surrogates':
        module.exit_json(changed=False, said=u'\udcff lone')
    elif how == 'huge answer':
        module.exit_json(changed=False, said='y' * 3000000)
    elif how == 'nan':
        module.exit_json(changed=False, said=float('nan'))
    elif how == 'own facts':
        module.exit_json(changed=False, ansible_facts={'of_the_module': 1, 'ansible_python_interpreter': '/nowhere', 'discovered_interpreter_python': '/nowhere'})
    elif how == 'reserved':
        module.exit_json(changed=False, _ansible_no_log=False, invocation='mine', warnings='one', deprecations=[])


def main():
    module = AnsibleModule(argument_spec=dict(how=dict(), path=dict()))
    spoil(module.params['how'], module)
    module.exit_json(changed=False, how=module.params['how'])


if __name__ == '__main__':
    main()
