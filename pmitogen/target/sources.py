"""Files that a new process would read on this host: the functions of freshness.py's table.

Each takes a *start_info*, a dict about the interpreter and its account: ``python`` is the program that was requested,
``programs`` are the paths of sudo, su or doas, ``shell`` is true if they start a login shell. It returns paths of files that may
exist or not. A path that ends in a slash is a directory with its files; one that ends in ``/.`` is a directory of which only the
identity counts. No function raises: files that cannot be read are left out.
"""

import os
import pwd
import re
import sys

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple  # noqa: F401

    from pmitogen.target.types import StartInfo  # noqa: F401

    Signature = Optional[Tuple[float, ...]]
    Permissions = Optional[Tuple[str, int, int, int]]

MAX_NAMES = 4096  # names in one directory
MAX_SOURCED = 256  # files that the start-up files of a shell name
MAX_SIZE = 16 << 20  # bytes to read of a file
ACCOUNT_FILES = ("/etc/passwd", "/etc/group", "/etc/shadow")
PAM_DIRECTORIES = ("/etc/pam.d", "/usr/lib/pam.d", "/usr/etc/pam.d")
# Files that a PAM module reads by default.
PAM_MODULES = {  # type: Dict[str, Tuple[str, ...]]
    "access": ("/etc/security/access.conf",),
    "env": ("/etc/environment", "/etc/security/pam_env.conf"),
    "faillock": ("/etc/security/faillock.conf",),
    "group": ("/etc/security/group.conf",),
    "limits": ("/etc/security/limits.conf", "/etc/security/limits.d/"),
    "namespace": ("/etc/security/namespace.conf", "/etc/security/namespace.d/"),
    "nologin": ("/etc/nologin", "/var/run/nologin"),
    "securetty": ("/etc/securetty",),
    "shells": ("/etc/shells",),
    "time": ("/etc/security/time.conf",),
    "umask": ("/etc/login.defs",),
}
# Program -> (PAM services, own files).
PROGRAMS = {  # type: Dict[str, Tuple[Tuple[str, ...], Tuple[str, ...]]]
    "sudo": (("sudo", "sudo-i"), ("/etc/sudoers", "/etc/sudoers.d/", "/etc/sudo.conf")),
    "su": (("su", "su-l"), ("/etc/login.defs",)),
    "doas": (("doas",), ("/etc/doas.conf", "/etc/doas.d/")),
}
# Shell -> (files read before a command that sshd runs, further files of a login shell). $ZDOTDIR is assumed to be the home.
SHELLS = {  # type: Dict[str, Tuple[Tuple[str, ...], Tuple[str, ...]]]
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
# Programs, which are never watched; and directories that change often, which are watched only if a shell sources a file there.
PROGRAM_FILES = ("/usr/bin/", "/usr/sbin/", "/usr/lib/", "/usr/share/", "/bin/", "/sbin/", "/lib/", "/dev/", "/proc/", "/sys/")
RESTLESS = ("/run/", "/tmp/", "/var/cache/", "/var/lib/", "/var/log/", "/var/mail/", "/var/run/", "/var/spool/", "/var/tmp/")
# Patterns for start-up files of shells: text to ignore, and paths.
COMMENT = re.compile(r"(?:^|(?<=\s))#.*$", re.M)
WRITTEN = re.compile(r"(^|[\s;&|(])(?:(?:touch|tee|mkdir|rm|mv|cp|chmod|chown|logger)\s[^;&|\n]*|\d?>[>|&]?\s*[^\s;&|)]*)", re.M)
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
ASSIGNED = re.compile(r"(?:^|[\s;])(\w+)=([^\s;&|`$()]*(?:\$\{?\w+\}?[^\s;&|`$()]*)*)", re.M)
WORD = re.compile(r"((?:(?<=^)|(?<=[\s;&|({]))(?:\\?\.|source)\s+)?[\"']?([^\s;&|()<>{}\"'`=:,]+)", re.M)


def signature(path):
    # type: (str) -> Signature
    """Return a value that changes when a file or directory changes; None if it does not exist."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status[1:3] if path.endswith("/.") else (status[1], status[2], status[6], status.st_ctime)


def permissions(path):
    # type: (str) -> Permissions
    """Return a path with its mode and owner; None if it does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return path, status.st_mode, status.st_uid, status.st_gid


def read_text(path):
    # type: (str) -> str
    """Return the text of a file, "" if it cannot be read."""
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_SIZE)
        if sys.version_info < (3,):
            return content
        return os.fsdecode(content)
    except (IOError, OSError):
        return ""


def list_directory(directory):
    # type: (str) -> List[str]
    """Return the names in a directory; none if it cannot be read."""
    try:
        return sorted(os.listdir(directory))[:MAX_NAMES]
    except OSError:
        return []


def home_directory():
    # type: () -> str
    return os.environ.get("HOME") or "/"


def account_name():
    # type: () -> str
    """Return the name of this process's account, its number if it has no entry."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def expand_home(paths):
    # type: (Iterable[str]) -> List[str]
    return [home_directory() + path[1:] if path.startswith("~") else path for path in paths]


# Python


def interpreter(start_info):
    # type: (StartInfo) -> List[str]
    """Return the requested program, the interpreter that runs, and the files by which a version manager chooses one."""
    paths, asked = [sys.executable or "/"], start_info.get("python") or ""
    if sys.prefix != getattr(sys, "base_prefix", sys.prefix):
        paths.append(sys.prefix + "/pyvenv.cfg")
    if asked and "/" not in asked:
        for directory in os.environ.get("PATH", "").split(":"):
            asked = os.path.join(directory, start_info["python"])
            paths.append(asked)
            if os.path.exists(asked):
                break
    if asked:
        paths.append(asked)
    if asked and os.path.realpath(asked) != os.path.realpath(paths[0]):  # a script of pyenv, asdf or mise
        paths.append((os.environ.get("PYENV_ROOT") or home_directory() + "/.pyenv") + "/version")
        paths += expand_home(["~/.python-version", "~/.tool-versions", "~/.config/mise/config.toml"])
    return paths


def site_directories(start_info):
    # type: (StartInfo) -> List[str]
    """Return the directories searched for modules, also those that do not exist, and the files that configure them."""
    site = sys.modules.get("site")  # type: Any
    paths = [path for path in sys.path if path and path[:6] != "/proc/" and os.path.basename(path) != "lib-dynload"]
    try:
        sites = list(site.getsitepackages())
    except AttributeError:  # not imported (-S), or that of an old virtualenv
        sites = []
    if getattr(site, "ENABLE_USER_SITE", None):
        sites.append(site.getusersitepackages())
    sites += [path for path in paths if path.endswith("-packages")]
    for path in sites:
        paths.append(path)
        paths += [path + "/" + name for name in list_directory(path) if name.endswith((".pth", ".start"))]
    return paths + [module_file(name) for name in ("sitecustomize", "usercustomize") if module_file(name)]


def module_file(name):
    # type: (str) -> str
    """Return the source of an imported module, "" if it has none."""
    path = getattr(sys.modules.get(name), "__file__", None) or ""
    return path[:-1] if path.endswith((".pyc", ".pyo")) else path


def imported_modules(start_info):
    # type: (StartInfo) -> List[str]
    """Return the files and directories of the imported modules that are not in the standard library."""
    own = os.path.dirname(os.__file__) + "/"
    files = [path for path in map(module_file, list(sys.modules)) if path[:1] == "/" and os.path.exists(path)]
    files = [path for path in files if "-packages" in path or not path.startswith(own)]
    return sorted(set(map(os.path.dirname, files))) + files


def locale_files(start_info):
    # type: (StartInfo) -> List[str]
    """Return the installed locales."""
    return [path for path in ("/usr/lib/locale", "/usr/lib/locale/locale-archive") if os.path.exists(path)]


def name_service_files(start_info):
    # type: (StartInfo) -> List[str]
    """Configuration of the C library's name service; since 2.34 glibc notices changes itself."""
    try:
        version = [int(part) for part in (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[1].split(".")]
    except (ValueError, AttributeError, IndexError, OSError):
        version = []
    return ["/etc/nsswitch.conf"] if version < [2, 34] else []


def selinux_files(start_info):
    # type: (StartInfo) -> List[str]
    """Return the files that libselinux reads when it is loaded."""
    return ["/etc/selinux/config"] if os.path.exists("/etc/selinux") else []


def openssl_files(start_info):
    # type: (StartInfo) -> List[str]
    """OpenSSL's configuration and the files that it includes."""
    paths = [path for path in (os.environ.get("OPENSSL_CONF"),) if path]
    paths = paths or [path for path in ("/etc/pki/tls/openssl.cnf", "/usr/lib/ssl/openssl.cnf", "/etc/ssl/openssl.cnf")]
    paths = [path for path in paths if os.path.exists(path)][:1] or paths[-1:]
    included = re.findall(r"^\s*\.include\s*=?\s*(/\S+)", read_text(paths[0]), re.M)
    return paths + [path + "/" if os.path.isdir(path) else path for path in included]


# Entering an account


def pam_files(services):
    # type: (Sequence[str]) -> List[str]
    """Return the configuration of PAM services: their files, included files, and the files that their modules read."""
    paths, todo, done = [], list(services) or ["other"], set()  # type: Tuple[List[str], List[str], Set[str]]
    while todo:
        service = todo.pop(0)
        if service in done:
            continue
        done.add(service)
        places = [directory + "/" + service for directory in PAM_DIRECTORIES]
        config = ([path for path in places if os.path.exists(path)] or places[:1])[0]
        paths.append(config)
        for line in read_text(config).splitlines():
            fields = line.partition("#")[0].split()
            todo += re.findall(r"^@include\s+(\S+)|^-?\w+\s+(?:include|substack)\s+(\S+)", line) and [fields[-1]] or []
            module = re.search(r"\bpam_(\w+)\.so", line) if fields else None
            if module:
                paths += PAM_MODULES.get(module.group(1), ())
                paths += filter(None, map(watchable, re.findall(r"[\s=\[](/[^\s\]]+)", line[module.end() :])))
            if "user_readenv=1" in fields:
                paths += expand_home(["~/.pam_environment"])
    return paths


def entry_files(start_info):
    # type: (StartInfo) -> List[str]
    """Return the programs that enter an account, and their configuration."""
    paths, services = [], []  # type: Tuple[List[str], List[str]]
    for path in start_info["programs"]:
        name = os.path.basename(path)
        kind = "sudo" if name[:4] == "sudo" else "su" if name[:2] == "su" else "doas" if name == "doas" else "sudo"
        own_services, own_files = PROGRAMS[kind]
        services += own_services if start_info["shell"] else own_services[:1]
        paths.append(path)
        paths += own_files
        if kind == "sudo":
            paths += sudo_includes()
    return paths + pam_files(services)


def sudo_includes(main="/etc/sudoers", directory="/etc/sudoers.d/"):
    # type: (str, str) -> List[str]
    """Return the files that sudo's rules include, and their files of variables, as far as they can be read."""
    paths = []  # type: List[str]
    todo = [main] + [directory + name for name in list_directory(directory)]
    for path in todo:
        text = read_text(path)
        paths += re.findall(r"env_file\s*=\s*\"?(/[^\s\",]+)", text)
        for kind, name in re.findall(r"^\s*[#@](include|includedir)\s+\"?([^\s\"]+)", text, re.M):
            place = os.path.join(os.path.dirname(path), name.replace("%h", os.uname()[1].partition(".")[0]))
            if kind == "includedir":
                place = place.rstrip("/") + "/"
            if place not in paths and place != directory and len(todo) < 2 * MAX_NAMES:
                paths.append(place)
                todo += [place + each for each in list_directory(place)] if kind == "includedir" else [place]
    return paths


def connection_files(start_info):
    # type: (StartInfo) -> List[str]
    """Return the files that sshd reads for each login. Not /etc/shadow: every account changes it, and only root can read it."""
    return ["/etc/passwd", "/etc/group"] + pam_files(["sshd"])


# Shells and sessions


def shell_files(shell, is_login_shell):
    # type: (str, bool) -> List[str]
    """Return the files that *shell* reads before a command. *is_login_shell*: it reads more."""
    always, at_login = SHELLS.get(os.path.basename(shell), SHELLS["sh"])
    paths = list(always + (at_login if is_login_shell else ()))
    paths += [os.environ[name] for name in ("BASH_ENV",) if os.environ.get(name, "").startswith("/")]
    return sourced(expand_home(paths))


def sourced(paths):
    # type: (List[str]) -> List[str]
    """Return *paths* and all files that these start-up files name, sourced or not."""
    named_files, todo = list(paths), [path for path in paths if not path.endswith("/")]
    for path in todo:
        for name, is_sourced in named(read_text(path)):
            if len(named_files) >= MAX_SOURCED:
                break
            if name not in named_files:
                named_files.append(name)
            if is_sourced and name not in todo and not name.endswith("/"):
                todo.append(name)
    return named_files


def named(text):
    # type: (str) -> List[Tuple[str, bool]]
    """Return the paths in the text of a start-up file, each with True if it is sourced."""
    text, values = WRITTEN.sub(r"\1", COMMENT.sub("", text)), dict(os.environ, HOME=home_directory(), PATH="$")
    paths = []  # type: List[Tuple[str, bool]]
    value_of = lambda match: values.get(match.group(1) or match.group(2), "$")  # type: Callable[[Any], str]  # noqa: E731
    expand = lambda text: VARIABLE.sub(value_of, text)  # type: Callable[[str], str]  # noqa: E731
    for name, value in ASSIGNED.findall(text):
        values.setdefault(name, expand(value.strip("\"'")))
    for sources_it, word in WORD.findall(expand(text)):
        if word[:1] == "~":
            word = home_directory() + word[1:] if word[1:2] in ("", "/") else os.path.expanduser(word)
        if word[:1] not in ("/", "$", "~") and (sources_it or word[:2] == "./"):
            word = home_directory() + "/" + word
        path = watchable(word, () if sources_it else RESTLESS)
        if path:
            paths.append((path, bool(sources_it)))
    return paths


def watchable(path, without=RESTLESS):
    # type: (str, Tuple[str, ...]) -> str
    """Return *path* in the form to watch, "" if it is not watched: for a pattern, its directory with the files in it."""
    if path[:1] != "/" or "$" in path:
        return ""
    pattern = re.search(r"[^/]*[*?\[]", path)
    path = os.path.normpath(path[: pattern.start()] if pattern else path).replace("//", "/")
    if path in ("/", "/etc", home_directory()) or (path + "/").startswith(PROGRAM_FILES + without):
        return ""
    return path + "/" if pattern else path + "/." if os.path.isdir(path) else path


def profile_files(start_info):
    # type: (StartInfo) -> List[str]
    """Return the files that the login shell of an entered account reads, if a login shell is started."""
    return shell_files(os.environ.get("SHELL") or "/bin/sh", True) if start_info["shell"] else []


def session_files(start_info):
    # type: (StartInfo) -> List[str]
    """Return the files that sshd and the login shell read for each session."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    own = expand_home(["~/.", "~/.ssh/environment", "~/.ssh/rc"])
    return own + ["/etc/ssh/sshrc", "/etc/nologin"] + shell_files(shell, False)
