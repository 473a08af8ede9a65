"""Which files a fresh process would read here: the functions of freshness.py's table.

Each takes a *place*, a dict that says what is known of the interpreter and its account: ``python`` is the program that was asked
for, ``programs`` are the paths of sudo, su or doas, ``shell`` says whether they start a login shell. It returns paths, of files
that exist or not. A path that ends in a slash is a directory with its files; one that ends in ``/.`` is a directory of which only
the identity counts. Nothing raises: what cannot be read is left out.
"""

import os
import re
import sys

MAX_NAMES = 64  # of one directory, or that one file sources
MAX_SIZE = 16 << 20  # bytes of a file that are read
ACCOUNT_FILES = ("/etc/passwd", "/etc/group", "/etc/shadow")
PAM_DIRECTORIES = ("/etc/pam.d", "/usr/lib/pam.d", "/usr/etc/pam.d")
# Which files a PAM module reads unless it is told another.
PAM_MODULES = {
    "access": ("/etc/security/access.conf",),
    "env": ("/etc/environment", "/etc/security/pam_env.conf"),
    "group": ("/etc/security/group.conf",),
    "limits": ("/etc/security/limits.conf", "/etc/security/limits.d/"),
    "namespace": ("/etc/security/namespace.conf", "/etc/security/namespace.d/"),
    "time": ("/etc/security/time.conf",),
    "umask": ("/etc/login.defs",),
}
# Program -> (PAM services, own files).
PROGRAMS = {
    "sudo": (("sudo", "sudo-i"), ("/etc/sudoers", "/etc/sudoers.d/", "/etc/sudo.conf")),
    "su": (("su", "su-l"), ("/etc/login.defs",)),
    "doas": (("doas",), ("/etc/doas.conf", "/etc/doas.d/")),
}
# Shell -> (what it reads before any command that sshd gives it, what it reads besides as a login shell). $ZDOTDIR is the home.
SHELLS = {
    "bash": (
        ("/etc/bash.bashrc", "~/.bashrc"),
        ("/etc/profile", "/etc/profile.d/", "~/.bash_profile", "~/.bash_login", "~/.profile"),
    ),
    "zsh": (
        ("/etc/zshenv", "/etc/zsh/zshenv", "~/.zshenv"),
        ("/etc/zprofile", "/etc/zsh/zprofile", "~/.zprofile", "/etc/zlogin", "/etc/zsh/zlogin", "~/.zlogin"),
    ),
    "csh": (("/etc/csh.cshrc", "~/.cshrc", "~/.tcshrc"), ("/etc/csh.login", "~/.login")),
    "fish": (("/etc/fish/", "/etc/fish/conf.d/", "~/.config/fish/", "~/.config/fish/conf.d/"), ()),
    "sh": ((), ("/etc/profile", "/etc/profile.d/", "~/.profile")),
}
SHELLS["tcsh"] = SHELLS["csh"]
SOURCED = re.compile(r"(?:^|[\s;&|({])(?:\.|source)\s+([^\s;&|)]+)", re.M)


def signature(path):
    """What differs once a file or directory has changed; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found[1:3] if path.endswith("/.") else (found[1], found[2], found[6], found.st_ctime)


def read_text(path):
    """The text of a file, "" if it cannot be had."""
    try:
        with open(path, "rb") as stream:
            return stream.read(MAX_SIZE).decode("latin-1")
    except (IOError, OSError):
        return ""


def list_directory(directory):
    """What is in a directory."""
    try:
        return sorted(os.listdir(directory))[:MAX_NAMES]
    except OSError:
        return []


def home_directory():
    return os.environ.get("HOME") or "/"


def expand_home(paths):
    return [home_directory() + path[1:] if path.startswith("~") else path for path in paths]


# Python


def interpreter(start_info):
    """The interpreter: what was asked for, what that is now, and how a version manager chooses."""
    found, asked = [sys.executable or "/"], start_info.get("python") or ""
    if sys.prefix != getattr(sys, "base_prefix", sys.prefix):
        found.append(sys.prefix + "/pyvenv.cfg")
    if asked and "/" not in asked:
        for directory in os.environ.get("PATH", "").split(":"):
            asked = os.path.join(directory, start_info["python"])
            found.append(asked)
            if os.path.exists(asked):
                break
    if asked:
        found.append(asked)
    if asked and os.path.realpath(asked) != os.path.realpath(found[0]):  # a script of pyenv, asdf or mise
        found.append((os.environ.get("PYENV_ROOT") or home_directory() + "/.pyenv") + "/version")
        found += expand_home(["~/.python-version", "~/.tool-versions", "~/.config/mise/config.toml"])
    return found


def site_directories(start_info):
    """Where modules are looked for, or would be if the directory was there, and the files that say so."""
    site = sys.modules.get("site")
    found = [path for path in sys.path if path and path[-4:] != ".zip" and os.path.basename(path) != "lib-dynload"]
    try:
        sites = list(site.getsitepackages())
    except AttributeError:  # not imported (-S), or that of an old virtualenv
        sites = []
    if getattr(site, "ENABLE_USER_SITE", None):
        sites.append(site.getusersitepackages())
    sites += [path for path in found if path.endswith("-packages")]
    for path in sites:
        found.append(path)
        found += [path + "/" + name for name in list_directory(path) if name.endswith((".pth", ".start"))]
    return found + [module_file(name) for name in ("sitecustomize", "usercustomize") if module_file(name)]


def module_file(name):
    """The source of an imported module, "" if it has none."""
    path = getattr(sys.modules.get(name), "__file__", None) or ""
    return path[:-1] if path.endswith((".pyc", ".pyo")) else path


def imported_directories(start_info):
    """Where modules lie that were imported from anywhere but the standard library. What installs others replaces files there."""
    own = os.path.dirname(os.__file__) + "/"
    found = set(os.path.dirname(module_file(name)) for name in list(sys.modules))
    foreign = [path for path in found if path[:1] == "/" and ("-packages" in path or not (path + "/").startswith(own))]
    return [path for path in foreign if list_directory(path)]


def locale_files(start_info):
    """The locales that there are."""
    return [path for path in ("/usr/lib/locale", "/usr/lib/locale/locale-archive") if os.path.exists(path)]


def name_service_files(start_info):
    """Which sources the C library asks for names; glibc looks itself since 2.34."""
    try:
        version = [int(part) for part in os.confstr("CS_GNU_LIBC_VERSION").split()[1].split(".")]
    except (ValueError, AttributeError, IndexError, OSError):
        version = []
    return ["/etc/nsswitch.conf"] if version < [2, 34] else []


def selinux_files(start_info):
    """What libselinux reads when it is loaded."""
    return ["/etc/selinux/config"] if os.path.exists("/etc/selinux") else []


def openssl_files(start_info):
    """OpenSSL's configuration, with what that includes."""
    found = [path for path in (os.environ.get("OPENSSL_CONF"),) if path]
    found = found or [path for path in ("/etc/pki/tls/openssl.cnf", "/usr/lib/ssl/openssl.cnf", "/etc/ssl/openssl.cnf")]
    found = [path for path in found if os.path.exists(path)][:1] or found[-1:]
    included = re.findall(r"^\s*\.include\s*=?\s*(/\S+)", read_text(found[0]), re.M)
    return found + [path + "/" if os.path.isdir(path) else path for path in included]


# Entering an account


def pam_files(services):
    """The configuration of PAM services: their files, those included, and what the modules in them read."""
    found, todo, done = [], list(services) or ["other"], set()
    while todo:
        service = todo.pop(0)
        if service in done:
            continue
        done.add(service)
        places = [directory + "/" + service for directory in PAM_DIRECTORIES]
        config = ([path for path in places if os.path.exists(path)] or places[:1])[0]
        found.append(config)
        for line in read_text(config).splitlines():
            words = line.partition("#")[0].split()
            todo += re.findall(r"^@include\s+(\S+)|^-?\w+\s+(?:include|substack)\s+(\S+)", line) and [words[-1]] or []
            module = re.search(r"\bpam_(\w+)\.so", line) if words else None
            if module:
                found += PAM_MODULES.get(module.group(1), ())
                found += re.findall(r"\b(?:envfile|conffile|file|conf|accessfile)=(/[^\s\]]+)", line)
            if "user_readenv=1" in words:
                found += expand_home(["~/.pam_environment"])
    return found


def entry_files(start_info):
    """The configuration of the programs by which an account is entered, and they themselves."""
    found, services = [], []
    for path in start_info["programs"]:
        name = os.path.basename(path)
        kind = "sudo" if name[:4] == "sudo" else "su" if name[:2] == "su" else "doas" if name == "doas" else "sudo"
        own_services, own_files = PROGRAMS[kind]
        services += own_services if start_info["shell"] else own_services[:1]
        found.append(path)
        found += own_files
        if kind == "sudo":
            found += sudo_includes("/etc/sudoers")
    return found + pam_files(services)


def sudo_includes(path):
    """What a sudoers file includes, where it can be read."""
    found = []
    for kind, name in re.findall(r"^[#@](include|includedir)\s+(/\S+)", read_text(path), re.M):
        found.append(name + "/" if kind == "includedir" else name)
    return found


def connection_files(start_info):
    """What sshd reads for each login. Not /etc/shadow: it changes with every account, and only root sees what about it."""
    return ["/etc/passwd", "/etc/group"] + pam_files(["sshd"])


# Shells and sessions


def shell_files(shell, login):
    """What *shell* reads before a command; *login*: as a login shell, too."""
    always, at_login = SHELLS.get(os.path.basename(shell), SHELLS["sh"])
    found = list(always + (at_login if login else ()))
    found += [os.environ[name] for name in ("BASH_ENV",) if os.environ.get(name, "").startswith("/")]
    return sourced(expand_home(found))


def sourced(paths):
    """*paths*, and the files that they read by ``.`` or ``source``, as far as their names are written out."""
    found = list(paths)
    for path in found:
        for name in SOURCED.findall(read_text(path) if not path.endswith("/") else ""):
            name = re.sub(r"^(?:~|\$HOME|\$\{HOME\})(?=/)", lambda _: home_directory(), name.strip("\"'"))
            if (
                name[:1] == "/"
                and name[:5] != "/usr/"
                and not set(name) & set("$*`?")
                and name not in found
                and len(found) < MAX_NAMES
            ):
                found.append(name)
                if name == "/etc/bashrc":  # of Red Hat's: its loop is more than we read
                    found.append("/etc/profile.d/")
    return found


def profile_files(start_info):
    """What the login shell of an entered account reads, if there is one between."""
    return shell_files(os.environ.get("SHELL") or "/bin/sh", True) if start_info["shell"] else []


def session_files(start_info):
    """What sshd and the login shell read for each session."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    own = expand_home(["~/.", "~/.ssh/environment", "~/.ssh/rc"])
    return own + ["/etc/ssh/sshrc", "/etc/nologin"] + shell_files(shell, False)
