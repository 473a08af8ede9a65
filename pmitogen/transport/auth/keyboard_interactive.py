"""Answer keyboard-interactive prompts with the credentials (RFC 4256).

Prompts are free text: "Password:", "Verification code:", in any language, in one round or several. An answer is looked up in
this order: the one-time code, for prompts that name one; the password, for any prompt that does not echo; the user. A password is
never sent for a prompt that echoes. A secret is never sent twice in one attempt, because a repeated prompt means that it was
wrong, and a one-time code is used up.
"""

from __future__ import annotations

import re

from pmitogen.transport.auth.credentials import Credentials, Secret
from pmitogen.transport.keys.wire import DecodeError, PacketReader
from pmitogen.util.peer_text import escape, escape_lines, format_prompt

MAX_PROMPTS = 64  # prompts in one round
MAX_PROMPT_SIZE = 4096  # bytes of one prompt
# From prompts of pam_google_authenticator, pam_oath, Duo, RSA SecurID, privacyIDEA, FreeIPA and YubiKey modules.
_CODE_WORDS = re.compile(
    r"verification|\bcode\b|one[- ]?time|\botp\b|token|second factor|2fa|totp|authenticator|passcode|yubikey|securid|\bduo\b",
    re.IGNORECASE,
)
_PASSWORD_WORDS = re.compile(
    r"passwor[dt]|passwd|mot de passe|contrase|senha|kennwort|passord|wachtwoord|haslo|hasło|parola|lösenord|salasana"
    "|\u30d1\u30b9\u30ef\u30fc\u30c9|\u5bc6\u7801|\u5bc6\u78bc|\u043f\u0430\u0440\u043e\u043b\u044c",  # ja, zh, ru
    re.IGNORECASE,
)


class PromptAnswerer:
    """Answers the prompts of one authentication attempt. *reason*: why :meth:`answer` returned None.

    *peer*: account and host, for the prompts that the user sees.
    """

    def __init__(self, credentials: Credentials, interactive: bool, peer: str = "server") -> None:
        self._credentials = credentials
        self._peer = peer
        self._prompt = credentials.prompt if interactive else None
        self._used: set[int] = set()
        self.reason = ""
        self.answered = False

    def answer(self, title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str] | None:
        """Return one round's answers in order, or None to give up. *prompts*: (text, echo)."""
        answers = []
        for text, echo in prompts:
            secret = self._choose(text, echo)
            reply = secret.reveal() if secret else self._ask_user(title, instructions, text, echo)
            if reply is None:
                return None
            answers.append(reply)
        self.answered = self.answered or bool(prompts)
        return answers

    def _choose(self, text: str, echo: bool) -> Secret | None:
        is_code = _CODE_WORDS.search(text) is not None
        is_password = _PASSWORD_WORDS.search(text) is not None
        if is_code and not (is_password and self._credentials.otp is None):
            return self._use_once(self._credentials.otp)
        if not echo:
            return self._use_once(self._credentials.password) or self._use_once(None if is_password else self._credentials.otp)
        return None

    def _use_once(self, secret: Secret | None) -> Secret | None:
        if secret is None or id(secret) in self._used:
            return None
        self._used.add(id(secret))  # two secrets may have the same text
        return secret

    def _ask_user(self, title: str, instructions: str, text: str, echo: bool) -> str | None:
        reply = self._prompt(self._format_prompt(title, instructions, text), echo) if self._prompt else None
        if reply is None:
            again = " again" if self._used else ""
            self.reason = f"the server prompts{again}: {escape(text, 80)!r}, and no answer is given"
        return reply

    def _format_prompt(self, title: str, instructions: str, text: str) -> str:
        """Return the prompt for the user: each of the server's lines begins with the account and host, as in OpenSSH."""
        lines = [*escape_lines(title, max_lines=1), *escape_lines(instructions)]
        return "".join(f"({escape(self._peer)}) {line}\n" for line in lines) + format_prompt(self._peer, text)


def info_request(reader: PacketReader) -> tuple[str, str, list[tuple[str, bool]]]:
    """Return title, instructions and prompts of a request (RFC 4256 section 3.2); bytes that are not UTF-8 are replaced.

    A prompt is (text, whether the answer may be echoed). Raises DecodeError.
    """
    title, instructions = (reader.string().decode("utf-8", "replace") for _ in range(2))
    reader.string()  # language
    count = reader.u32()
    if count > MAX_PROMPTS:
        raise DecodeError(f"{count} prompts at once")
    prompts = []
    for _ in range(count):
        text = reader.string()
        if len(text) > MAX_PROMPT_SIZE:
            raise DecodeError(f"a prompt of {len(text)} bytes")
        prompts.append((text.decode("utf-8", "replace"), reader.take(1) != b"\0"))
    return title, instructions, prompts
