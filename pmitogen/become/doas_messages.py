"""Messages of doas: of OpenBSD, the portable opendoas, and the port by slicer69, with the kind of failure that each means.

Sources: usr.bin/doas/doas.c of OpenBSD; doas.c, pam.c and shadow.c of opendoas.
"""

PATTERNS = (
    ("account", r"account has expired|[Aa]ccount .{0,64}expired"),
    ("tty", r"a tty is required|no tty|failed to open: /dev/tty|/dev/tty"),
    ("password-missing", r"[Aa]uthentication required|[Aa]uthorization required"),
    ("password-wrong", r"[Aa]uthentication failed|[Aa]uthorization failed"),
    ("unknown-user", r"unknown user|no passwd entry"),
    ("not-permitted", r"[Oo]peration not permitted|doas is not enabled|not installed setuid|could not open config file"),
    ("not-permitted", r"is not owned by root"),
)

MESSAGE_IDS = ()
