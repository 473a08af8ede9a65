#!/usr/bin/python
"""Return the requested parts of the state that a process reads at its start, to find state left over in an interpreter."""
from __future__ import absolute_import, division, print_function
__metaclass__ = type

import datetime
import os
import socket
import sys
import time

from ansible.module_utils.basic import AnsibleModule


def zone():
    hours = round((datetime.datetime.now() - datetime.datetime.utcfromtimestamp(time.time())).total_seconds() / 900) / 4
    return [hours, time.tzname[0], time.strftime('%Z')]


def groups():
    import grp
    return sorted(grp.getgrgid(number).gr_name for number in os.getgroups())


def core_limit():
    import resource
    return list(resource.getrlimit(resource.RLIMIT_CORE))


def umask():
    mask = os.umask(0o22)
    os.umask(mask)
    return oct(mask)


def directory():
    here, home = os.stat('.'), os.stat(os.environ['HOME'])
    return [os.getcwd(), (here.st_dev, here.st_ino) == (home.st_dev, home.st_ino)]


def python():
    return [list(sys.version_info[:2]), sys.executable, sys.prefix]


def host():
    import platform
    import uuid
    return [platform.node(), socket.gethostname(), uuid.UUID(int=1).version]


def tls():
    import ssl
    context = ssl.create_default_context()
    return [len(context.get_ciphers()), str(context.minimum_version), sorted(str(cert['subject']) for cert in context.get_ca_certs())[:3]]


def locale_name():
    import locale
    try:
        return [locale.setlocale(locale.LC_ALL, ''), locale.getpreferredencoding(False), sys.getfilesystemencoding(), sys.flags.utf8_mode]
    except locale.Error as exc:
        return str(exc)


def user_site():
    import site
    return [site.getusersitepackages(), site.ENABLE_USER_SITE, [path for path in sys.path if path.startswith(os.environ['HOME'] + '/')]]


def yaml_version():
    from ansible.module_utils.common import yaml
    if not yaml.HAS_YAML:
        return 'none'
    import yaml as theirs
    return theirs.__version__


LOOKS = dict(
    zone=zone, groups=groups, core_limit=core_limit, umask=umask, directory=directory, python=python, host=host, tls=tls,
    locale=locale_name, user_site=user_site, yaml=yaml_version,
)


def imported(name):
    try:
        return str(getattr(__import__(name), 'VALUE', 'without a value'))
    except ImportError as exc:
        return type(exc).__name__


def resolved(name):
    try:
        return sorted(set(info[4][0] for info in socket.getaddrinfo(name, None, socket.AF_INET)))
    except socket.gaierror as exc:
        return exc.args[0]


def main():
    module = AnsibleModule(argument_spec=dict(
        at=dict(type='list', elements='str', default=[]), variables=dict(type='list', elements='str', default=[]),
        modules=dict(type='list', elements='str', default=[]), names=dict(type='list', elements='str', default=[]),
    ), supports_check_mode=True)
    asked = module.params
    module.exit_json(
        changed=False, seen=dict((name, LOOKS[name]()) for name in asked['at']),
        variables=dict((name, os.environ.get(name)) for name in asked['variables']),
        modules=dict((name, imported(name)) for name in asked['modules']),
        names=dict((name, resolved(name)) for name in asked['names']),
    )


if __name__ == '__main__':
    main()
