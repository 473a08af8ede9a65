# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The connection plugin under its name in a collection, ``pmitogen.core.ssh``: the same options, the same class.

Generated from pmitogen/ansible/plugins/connection/pmitogen.py by ``python -m pmitogen.ansible.options.generate``.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: ssh
short_description: run tasks over an in-process SSH client and one warm Python per host
description:
  - Connects with a built-in SSH client (Paramiko), starts one Python interpreter on the target over one channel, and runs
    modules, commands and file transfers as calls to it. No C(ssh), C(scp), C(sftp), C(sshpass) or C(ssh-agent) program is
    ever started.
  - Takes the same environment variables, C(ansible.cfg) keys and command line options as Ansible's C(ssh) plugin, and of its
    variables those that Ansible removes from facts, so that no target can set them.
  - C(sudo), C(su) and C(doas) are passed once per account and run; any other become plugin works as Ansible wraps it.
author: pmitogen contributors (!UNKNOWN)
notes:
  - C(~/.ssh/config), C(/etc/ssh/ssh_config), C(known_hosts) files, certificates and the agent are used as OpenSSH's client
    would use them.
  - C(pmitogen explain ssh -- ARGS HOST) shows what becomes of each ssh option. An option that cannot be honoured is an error,
    never ignored.
  - Options that only concern the programs C(ssh), C(scp) and C(sftp) are accepted without effect.
options:
  host:
    description: Name or address to connect to; without it, the host's name in the inventory.
    type: string
    vars:
      - name: ansible_host
      - name: ansible_ssh_host
  host_key_checking:
    description:
      - Whether to refuse a host whose key is not in a C(known_hosts) file. V(false) is C(StrictHostKeyChecking=no), which
        still protects the password of a host whose key has changed. C(StrictHostKeyChecking=accept-new) in O(ssh_args) adds
        unknown keys and refuses changed ones.
      - No variable sets this option, because a target could set that variable. For single hosts or groups, use
        C(-o StrictHostKeyChecking=no) in C(ansible_ssh_common_args).
    default: true
    type: boolean
    ini:
      - {section: defaults, key: host_key_checking}
      - {section: ssh_connection, key: host_key_checking}
    env:
      - name: ANSIBLE_HOST_KEY_CHECKING
      - name: ANSIBLE_SSH_HOST_KEY_CHECKING
  password:
    description: Password of the O(remote_user), for password and keyboard-interactive authentication. Can be supplied as CLI
      option.
    type: string
    secret: true
    vars:
      - name: ansible_password
      - name: ansible_ssh_pass
      - name: ansible_ssh_password
  password_mechanism:
    description:
      - Accepted without effect; passwords are answered in the SSH protocol itself, by no helper program.
    type: string
    default: ssh_askpass
    choices: [ssh_askpass, sshpass, disable]
    env:
      - name: ANSIBLE_SSH_PASSWORD_MECHANISM
    ini:
      - {section: ssh_connection, key: password_mechanism}
    vars:
      - name: ansible_ssh_password_mechanism
  sshpass_prompt:
    description: Accepted without effect; there is no terminal on which a prompt must be found.
    default: ''
    type: string
    ini:
      - {section: ssh_connection, key: sshpass_prompt}
    env:
      - name: ANSIBLE_SSHPASS_PROMPT
  otp:
    description:
      - One-time code of a second factor. Answers the prompt of keyboard-interactive authentication that follows the
        password's or the key's.
      - Needed once per host and run, since one connection lasts the run. May be a template, such as a lookup that computes
        the code.
    type: string
    secret: true
    vars:
      - name: ansible_ssh_otp
  jump_credentials:
    description:
      - Credentials for the jump hosts on the way to the target (C(ProxyJump), C(-J), C(ProxyCommand="ssh -W ...")).
      - A mapping. Each name is C([user@]host[:port]), the jump host as it is written in the ssh arguments, or its C(HostName).
        Each value is a mapping with any of C(password), C(private_key) (the key's text), C(private_key_passphrase) (or
        C(passphrase)) and C(otp).
      - A jump host with an entry gets only the credentials of the entry. Without an entry it is logged in to with keys only.
        The target's password, passphrase and one-time code are never sent to it.
      - Key files, users and ports of jump hosts can be set in C(Host) blocks of an ssh configuration file as well.
    type: raw # a mapping; of another value Ansible would show what it is
    vars:
      - name: ansible_ssh_jump_credentials
  ssh_args:
    description:
      - Arguments as on the command line of C(ssh), translated to the built-in client; read before all the others, so they
        win.
      - The default itself means that nothing was chosen. C(ControlPersist) set here, in any other words than the default's,
        keeps the connection for that long after its last use, so that a later run finds it.
    default: '-C -o ControlMaster=auto -o ControlPersist=60s'
    type: string
    ini:
      - {section: ssh_connection, key: ssh_args}
    env:
      - name: ANSIBLE_SSH_ARGS
    vars:
      - name: ansible_ssh_args
  ssh_common_args:
    description: Further arguments as on the command line of C(ssh), commonly used for C(ProxyJump) and C(ProxyCommand).
    type: string
    ini:
      - {section: ssh_connection, key: ssh_common_args}
    env:
      - name: ANSIBLE_SSH_COMMON_ARGS
    vars:
      - name: ansible_ssh_common_args
    cli:
      - name: ssh_common_args
    default: ''
  ssh_extra_args:
    description: Further arguments as on the command line of C(ssh); read last.
    type: string
    vars:
      - name: ansible_ssh_extra_args
    env:
      - name: ANSIBLE_SSH_EXTRA_ARGS
    ini:
      - {section: ssh_connection, key: ssh_extra_args}
    cli:
      - name: ssh_extra_args
    default: ''
  ssh_executable:
    description: Accepted without effect; no C(ssh) program is started.
    default: ssh
    type: string
    env:
      - name: ANSIBLE_SSH_EXECUTABLE
    ini:
      - {section: ssh_connection, key: ssh_executable}
    vars:
      - name: ansible_ssh_executable
  sftp_executable:
    description: Accepted without effect; no C(sftp) program is started.
    default: sftp
    type: string
    env:
      - name: ANSIBLE_SFTP_EXECUTABLE
    ini:
      - {section: ssh_connection, key: sftp_executable}
  scp_executable:
    description: Accepted without effect; no C(scp) program is started.
    default: scp
    type: string
    env:
      - name: ANSIBLE_SCP_EXECUTABLE
    ini:
      - {section: ssh_connection, key: scp_executable}
  scp_extra_args:
    description: Accepted without effect; no C(scp) program is started.
    type: string
    env:
      - name: ANSIBLE_SCP_EXTRA_ARGS
    ini:
      - {section: ssh_connection, key: scp_extra_args}
    cli:
      - name: scp_extra_args
    default: ''
  sftp_extra_args:
    description: Accepted without effect; no C(sftp) program is started.
    type: string
    env:
      - name: ANSIBLE_SFTP_EXTRA_ARGS
    ini:
      - {section: ssh_connection, key: sftp_extra_args}
    cli:
      - name: sftp_extra_args
    default: ''
  sftp_batch_mode:
    description: Accepted without effect; a failed transfer is always noticed.
    default: true
    type: bool
    env:
      - name: ANSIBLE_SFTP_BATCH_MODE
    ini:
      - {section: ssh_connection, key: sftp_batch_mode}
  ssh_transfer_method:
    description: Accepted without effect; files travel over the same channel as everything else.
    choices: [sftp, scp, piped, smart]
    default: smart
    type: string
    env:
      - name: ANSIBLE_SSH_TRANSFER_METHOD
    ini:
      - {section: ssh_connection, key: transfer_method}
    vars:
      - name: ansible_ssh_transfer_method
  scp_if_ssh:
    description: Accepted without effect; the older word for O(ssh_transfer_method).
    default: smart
    env:
      - name: ANSIBLE_SCP_IF_SSH
    ini:
      - {section: ssh_connection, key: scp_if_ssh}
  reconnection_retries:
    description: How many more times to try to connect. A refused password or key is not tried again.
    default: 0
    type: integer
    env:
      - name: ANSIBLE_SSH_RETRIES
    ini:
      - {section: connection, key: retries}
      - {section: ssh_connection, key: retries}
    vars:
      - name: ansible_ssh_retries
  port:
    description: Port to connect to; without one, what C(ssh_config) says, or 22.
    type: int
    ini:
      - {section: defaults, key: remote_port}
    env:
      - name: ANSIBLE_REMOTE_PORT
    vars:
      - name: ansible_port
      - name: ansible_ssh_port
    keyword:
      - name: port
  remote_user:
    description: Account to log in to; without one, what C(ssh_config) says, or the local user's name.
    type: string
    ini:
      - {section: defaults, key: remote_user}
    env:
      - name: ANSIBLE_REMOTE_USER
    vars:
      - name: ansible_user
      - name: ansible_ssh_user
    cli:
      - name: user
    keyword:
      - name: remote_user
  pipelining:
    description:
      - Accepted without effect; modules always travel without temporary files, also where C(sudo) asks for a terminal.
    default: false
    type: boolean
    env:
      - name: ANSIBLE_PIPELINING
      - name: ANSIBLE_SSH_PIPELINING
    ini:
      - {section: defaults, key: pipelining}
      - {section: connection, key: pipelining}
      - {section: ssh_connection, key: pipelining}
    vars:
      - name: ansible_pipelining
      - name: ansible_ssh_pipelining
  private_key_file:
    description: Path of the private key to log in with, tried before those of C(ssh_config) and of the agent.
    type: string
    ini:
      - {section: defaults, key: private_key_file}
    env:
      - name: ANSIBLE_PRIVATE_KEY_FILE
    vars:
      - name: ansible_private_key_file
      - name: ansible_ssh_private_key_file
    cli:
      - name: private_key_file
        option: '--private-key'
  private_key:
    description:
      - The private key itself, in PEM or OpenSSH format, as from a vault. Used from memory; no agent is needed. Then no other
        key is offered.
    type: string
    secret: true
    env:
      - name: ANSIBLE_PRIVATE_KEY
    vars:
      - name: ansible_ssh_private_key
  private_key_passphrase:
    description: Passphrase of O(private_key), and of encrypted key files such as O(private_key_file).
    type: string
    secret: true
    env:
      - name: ANSIBLE_PRIVATE_KEY_PASSPHRASE
    vars:
      - name: ansible_ssh_private_key_passphrase
  control_path:
    description: Accepted without effect; the socket that runs share has a short name of its own in a private directory.
    type: string
    env:
      - name: ANSIBLE_SSH_CONTROL_PATH
    ini:
      - {section: ssh_connection, key: control_path}
  control_path_dir:
    description: Accepted without effect; see O(control_path).
    default: ~/.ansible/cp
    type: string
    env:
      - name: ANSIBLE_SSH_CONTROL_PATH_DIR
    ini:
      - {section: ssh_connection, key: control_path_dir}
  use_tty:
    description: Whether commands of C(raw) and C(script), and of become plugins other than C(sudo), C(su) and C(doas), run on a
      terminal, as they do over Ansible's C(ssh). Modules have none.
    default: true
    type: bool
    env:
      - name: ANSIBLE_SSH_USETTY
    ini:
      - {section: ssh_connection, key: usetty}
    vars:
      - name: ansible_ssh_use_tty
  timeout:
    description: Seconds within which an address must answer and the server send its SSH version (ssh's C(ConnectTimeout)); and
      within which a privilege escalation must be answered. A login that takes longer is waited for, as over ssh.
    default: 10
    type: integer
    env:
      - name: ANSIBLE_TIMEOUT
      - name: ANSIBLE_SSH_TIMEOUT
    ini:
      - {section: defaults, key: timeout}
      - {section: ssh_connection, key: timeout}
    vars:
      - name: ansible_ssh_timeout
    cli:
      - name: timeout
  pkcs11_provider:
    description:
      - Library of a PKCS#11 token (smart card, HSM) whose keys are offered. The connection password is then its PIN.
      - Needs the extra, C(pip install 'pmitogen[pkcs11]').
    default: ''
    type: string
    env:
      - name: ANSIBLE_PKCS11_PROVIDER
    ini:
      - {section: ssh_connection, key: pkcs11_provider}
    vars:
      - name: ansible_ssh_pkcs11_provider
  verbosity:
    description: How much to log of the connection, as so many C(-v) of C(ssh); see also the environment variable
      E(PMITOGEN_LOG).
    default: 0
    type: int
    env:
      - name: ANSIBLE_SSH_VERBOSITY
    ini:
      - {section: ssh_connection, key: verbosity}
    vars:
      - name: ansible_ssh_verbosity
  boot_python:
    description:
      - Interpreters to try, in this order, for the one that carries the connection; names are looked up in the login
        account's C(PATH).
      - Modules still run under C(ansible_python_interpreter). Without a value, that interpreter and the usual names and
        places are tried.
    type: list
    elements: string
    env:
      - name: PMITOGEN_BOOT_PYTHON
    ini:
      - {section: pmitogen, key: boot_python}
    vars:
      - name: ansible_ssh_boot_python
  hubs:
    description:
      - How many processes of the controller share the hosts of a run, each with connections of its own.
      - One is sufficient for the tasks of one C(ansible-playbook). Use two or more for large files on a fast network, of several
        gigabits a second, if the controller has idle processors.
    type: int
    default: 1
    env:
      - name: PMITOGEN_HUBS
    ini:
      - {section: pmitogen, key: hubs}
"""

EXAMPLES = r"""
# One host, one group, or all of them: an inventory variable
# [web:vars]
# ansible_connection=pmitogen.core.ssh

- name: One play
  hosts: web
  connection: pmitogen.core.ssh
  tasks:
    - name: Run a module
      ansible.builtin.ping:

# Everything: ansible.cfg
# [defaults]
# transport = pmitogen.core.ssh
"""

import os  # noqa: E402
import sys  # noqa: E402

try:
    import pmitogen  # noqa: F401  # pylint: disable=unused-import
except ImportError:  # a checkout that ansible.cfg names, not an installed package
    sys.path.append(os.path.abspath(os.path.join(os.path.realpath(__file__), *[os.pardir] * 6)))

try:
    from pmitogen.ansible.connection import Connection
    from pmitogen.ansible.options.register import register_options
    from pmitogen.ansible.preload.before_fork import preload
except ModuleNotFoundError as error:  # this file alone, without the Python package
    from ansible.errors import AnsibleError
    from ansible.plugins.connection import ConnectionBase

    MISSING = error.name

    class Connection(ConnectionBase):  # type: ignore[no-redef]
        """Stands for the connection where the Python package is missing, so that the documentation can be read."""

        transport = "pmitogen"

        def __init__(self, *args: object, **kwargs: object) -> None:
            """Raise AnsibleError, which says what to install for which Python."""
            raise AnsibleError(
                f"connection pmitogen: the Python package {MISSING} is not installed for Ansible's Python; "
                f"run: {sys.executable} -m pip install pmitogen (Python 3.10 or later)"
            )

        _connect = exec_command = put_file = fetch_file = close = __init__

else:
    register_options(__name__, __file__)
    preload()

__all__ = ["Connection"]
