"""Messages of su, with the kind of failure that each means: util-linux, shadow, sudo-rs, BusyBox, Toybox, BSD and PAM.

Sources: login-utils/su-common.c of util-linux, src/su.c of shadow, src/su of sudo-rs, loginutils/su.c of BusyBox, toys/lsb/su.c
of Toybox, libpam/pam_strerror.c and modules/pam_unix of Linux-PAM.
"""

PATTERNS = (
    ("account", r"account has expired|[Uu]ser credentials expired|[Aa]uthentication token (?:expired|is no longer valid)"),
    ("account", r"account (?:is )?(?:temporarily )?locked|maximum number of tries"),
    ("unknown-user", r"user .{0,256} does not exist|[Uu]nknown (?:id|login|user)\b|[Nn]o passwd entry|unknown user"),
    ("unknown-user", r"User not known to the underlying authentication module|user '[^']*' not found|su: no '[^']*'"),
    ("tty", r"must be run from a terminal"),
    ("password-wrong", r"[Aa]uthentication failure|[Ii]ncorrect password|su: [Ss]orry|authentication is denied|BAD SU"),
    ("password-wrong", r"\d+ incorrect authentication attempt|(?:^|\n)No\.\s*(?:\n|$)"),
    ("not-permitted", r"su: [Pp]ermission denied|only root can specify|may not be used by non-root|not in the correct group"),
    ("not-permitted", r"cannot set (?:group|user) id|cannot set groups|must be (?:suid|setuid)"),
    ("shell", r"(?:failed to execute|cannot execute|cannot run|can't execute|using restricted shell|is restricted shell)"),
)

MESSAGE_IDS = (
    ("password-wrong", "Linux-PAM", "Authentication failure"),
    ("not-permitted", "Linux-PAM", "Permission denied"),
    ("account", "Linux-PAM", "User account has expired"),
    ("account", "Linux-PAM", "Your account has expired; please contact your system administrator."),
    ("account", "Linux-PAM", "Authentication token is no longer valid; new one required"),
    ("unknown-user", "util-linux", "user %s does not exist or the user entry does not contain all the required fields"),
    ("shell", "util-linux", "failed to execute %s"),
)
