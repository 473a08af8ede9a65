"""Which files a fresh process would read here: the functions of freshness.py's table.

Each takes a *start_info*, a dict that says what is known of the interpreter and its account: ``python`` is the program that
was asked for, ``programs`` are the paths of sudo, su or doas, ``shell`` says whether they start a login shell. It returns
paths, of files that exist or not. A path that ends in a slash is a directory with its files; one that ends in ``/.`` is a
directory of which only the identity counts. Nothing raises: what cannot be read is left out.
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
# Programs, which do not count; and what others change all the time, which counts only if a shell reads it by ``.``.
PROGRAM_FILES = ("/usr/bin/", "/usr/sbin/", "/usr/lib/", "/usr/share/", "/bin/", "/sbin/", "/lib/", "/dev/", "/proc/", "/sys/")
RESTLESS = ("/run/", "/tmp/", "/var/cache/", "/var/lib/", "/var/log/", "/var/mail/", "/var/run/", "/var/spool/", "/var/tmp/")
# Of start-up files of shells: text that is not read, and what names a path.
COMMENT = re.compile(r"(?:^|(?<=\s))#.*$", re.M)
WRITTEN = re.compile(r"(^|[\s;&|(])(?:(?:touch|tee|mkdir|rm|mv|cp|chmod|chown|logger)\s[^;&|\n]*|\d?>[>|&]?\s*[^\s;&|)]*)", re.M)
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
ASSIGNED = re.compile(r"(?:^|[\s;])(\w+)=([^\s;&|`$()]*(?:\$\{?\w+\}?[^\s;&|`$()]*)*)", re.M)
WORD = re.compile(r"((?:(?<=^)|(?<=[\s;&|({]))(?:\\?\.|source)\s+)?[\"']?([^\s;&|()<>{}\"'`=:,]+)", re.M)


def signature(path):
    """What differs once a file or directory has changed; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found[1:3] if path.endswith("/.") else (found[1], found[2], found[6], found.st_ctime)


def permissions(path):
    """A path with its mode and owner."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return path, found.st_mode, found.st_uid, found.st_gid


def read_text(path):
    """The text of a file, "" if it cannot be had."""
    try:
        with open(path, "rb") as stream:
            found = stream.read(MAX_SIZE)
        return found if str is bytes else os.fsdecode(found)
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
    found = [path for path in sys.path if path and path[:6] != "/proc/" and os.path.basename(path) != "lib-dynload"]
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


def imported_modules(start_info):
    """The modules that were imported from anywhere but the standard library: their files, and where these lie."""
    own = os.path.dirname(os.__file__) + "/"
    files = [path for path in map(module_file, list(sys.modules)) if path[:1] == "/" and os.path.exists(path)]
    files = sorted(path for path in files if "-packages" in path or not path.startswith(own))
    return list(set(map(os.path.dirname, files))) + files[:MAX_NAMES]


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
                found += filter(None, map(watchable, re.findall(r"[\s=\[](/[^\s\]]+)", line[module.end() :])))
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
            found += sudo_includes()
    return found + pam_files(services)


def sudo_includes(main="/etc/sudoers", directory="/etc/sudoers.d/"):
    """What sudo's rules include, and the files of variables that they name, as far as they can be read."""
    found, todo = [], [main] + [directory + name for name in list_directory(directory)]
    for path in todo:
        text = read_text(path)
        found += re.findall(r"env_file\s*=\s*\"?(/[^\s\",]+)", text)
        for kind, name in re.findall(r"^\s*[#@](include|includedir)\s+\"?([^\s\"]+)", text, re.M):
            place = os.path.join(os.path.dirname(path), name.replace("%h", os.uname()[1].partition(".")[0]))
            if kind == "includedir":
                place = place.rstrip("/") + "/"
            if place not in found and place != directory and len(todo) < 2 * MAX_NAMES:
                found.append(place)
                todo += [place + each for each in list_directory(place)] if kind == "includedir" else [place]
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
    """*paths*, and the files that these start-up files name, whether they read them by ``.`` or look at them otherwise."""
    found, todo = list(paths), [path for path in paths if not path.endswith("/")]
    for path in todo:
        for name, is_sourced in named(read_text(path)):
            if len(found) >= MAX_NAMES:
                break
            if name not in found:
                found.append(name)
            if is_sourced and name not in todo and not name.endswith("/"):
                todo.append(name)
    return found


def named(text):
    """The paths in the text of a start-up file, each with whether it is read by ``.`` or ``source``."""
    text, values, found = WRITTEN.sub(r"\1", COMMENT.sub("", text)), dict(os.environ, HOME=home_directory(), PATH="$"), []
    expand = lambda text: VARIABLE.sub(lambda match: values.get(match.group(1) or match.group(2), "$"), text)  # noqa: E731
    for name, value in ASSIGNED.findall(text):
        values.setdefault(name, expand(value.strip("\"'")))
    for sources_it, word in WORD.findall(expand(text)):
        if word[:1] == "~":
            word = home_directory() + word[1:] if word[1:2] in ("", "/") else os.path.expanduser(word)
        if word[:1] not in ("/", "$", "~") and (sources_it or word[:2] == "./"):
            word = home_directory() + "/" + word
        path = watchable(word, () if sources_it else RESTLESS)
        if path:
            found.append((path, bool(sources_it)))
    return found


def watchable(path, without=RESTLESS):
    """*path* as it can be watched, "" if it is not to be: a pattern's directory with its files, of others the identity alone."""
    if path[:1] != "/" or "$" in path:
        return ""
    pattern = re.search(r"[^/]*[*?\[]", path)
    path = os.path.normpath(path[: pattern.start()] if pattern else path).replace("//", "/")
    if path in ("/", "/etc", home_directory()) or (path + "/").startswith(PROGRAM_FILES + without):
        return ""
    return path + "/" if pattern else path + "/." if os.path.isdir(path) else path


def profile_files(start_info):
    """What the login shell of an entered account reads, if there is one between."""
    return shell_files(os.environ.get("SHELL") or "/bin/sh", True) if start_info["shell"] else []


def session_files(start_info):
    """What sshd and the login shell read for each session."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    own = expand_home(["~/.", "~/.ssh/environment", "~/.ssh/rc"])
    return own + ["/etc/ssh/sshrc", "/etc/nologin"] + shell_files(shell, False)
