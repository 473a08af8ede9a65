"""Messages of Todd Miller's sudo (1.8 to 1.9) and of sudo-rs, with the kind of failure that each means.

Sources: plugins/sudoers/{sudoers,auth/sudo_auth,auth/pam,logging,policy}.c and src/{tgetpass,sudo}.c of sudo;
src/{common/error,sudo} of sudo-rs. Rows are tried in order, on the whole output.
"""

PATTERNS = (
    ("account", r"[Aa]ccount validation failure|[Aa]ccount expired or PAM config|[Aa]ccount or password is expired"),
    ("account", r"account has expired|unable to change expired password|[Pp]assword expired, contact"),
    ("account", r"PAM account management error"),
    ("tty", r"you must have a (?:tty|terminal) to|a terminal is required to read"),
    ("password-wrong", r"[Ss]orry, try again|[Aa]uthentication failed, try again"),
    ("password-wrong", r"\d+ incorrect (?:password|authentication) attempts?"),
    ("password-wrong", r"maximum \d+ incorrect authentication attempts|PAM authentication error: Authentication failure"),
    ("password-missing", r"a password is required|interactive authentication is required|no password was provided"),
    ("unknown-user", r"unknown (?:user|group|uid|gid)\b|user '[^']*' not found|group '[^']*' not found"),
    ("not-permitted", r"not in the sudoers file|is not allowed to (?:execute|run)|may not run sudo"),
    ("not-permitted", r"you are not (?:allowed|permitted)"),
    ("not-permitted", r"I'm sorry .{1,64}I'm afraid I can't do that|no valid sudoers sources|command not allowed"),
    ("not-permitted", r"effective uid is not|must be owned by uid|no new privileges|must be setuid root"),
)

# The same in the language of the system: (kind, gettext domain, message id).
MESSAGE_IDS = (
    ("password-wrong", "sudoers", "Sorry, try again."),
    ("password-wrong", "sudoers", "%u incorrect password attempt"),
    ("password-wrong", "sudoers", "%u incorrect password attempts"),
    ("password-missing", "sudoers", "a password is required"),
    ("password-missing", "sudo", "no password was provided"),
    ("not-permitted", "sudoers", "%s is not in the sudoers file.\n"),
    ("not-permitted", "sudoers", "%s is not in the sudoers file.  This incident will be reported.\n"),
    ("not-permitted", "sudoers", "%s is not allowed to run sudo on %s.\n"),
    ("not-permitted", "sudoers", "Sorry, user %s is not allowed to execute '%s%s%s' as %s%s%s on %s.\n"),
    ("not-permitted", "sudoers", "Sorry, user %s may not run sudo on %s.\n"),
    ("tty", "sudoers", "sorry, you must have a tty to run sudo"),
    ("unknown-user", "sudoers", "unknown user %s"),
    ("unknown-user", "sudoers", "unknown user: %s"),
    ("account", "sudoers", "account validation failure, is your account locked?"),
)
