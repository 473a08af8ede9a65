"""Prompts of real servers, and the secret that answers each."""

from __future__ import annotations

import pytest

from pmitogen.transport.auth.credentials import Credentials, Secret
from pmitogen.transport.auth.keyboard_interactive import PromptAnswerer

BOTH = Credentials(password=Secret("pw"), otp=Secret("123"))
PASSWORD = [
    "Password: ",
    "(alice@web) Password: ",
    "Mot de passe : ",
    "Contraseña: ",
    "Passwort: ",
    "密码:",
    "Пароль: ",
    "Hasło: ",
]
CODE = [
    "Verification code: ",  # pam_google_authenticator
    "One-time password (OATH) for `alice': ",  # pam_oath
    "Passcode or option (1-2): ",  # Duo
    "Enter PASSCODE:",  # SecurID
    "Enter Your Microsoft verification code",
    "Second Factor (optional): ",  # FreeIPA
    "please enter otp: ",  # privacyIDEA
    "YubiKey for `alice': ",
    "Token: ",
    "OTP:",
]  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "answer", "echo"),
    [*((text, "pw", False) for text in PASSWORD), *((text, "123", echo) for text in CODE for echo in (False, True))],
)
def test_each_prompt_gets_its_answer(prompt: str, answer: str, echo: bool) -> None:
    assert PromptAnswerer(BOTH, True).answer("", "", [(prompt, echo)]) == [answer]


@pytest.mark.parametrize("prompt", PASSWORD)
def test_a_prompt_with_echo_gets_no_password(prompt: str) -> None:
    assert PromptAnswerer(BOTH, False).answer("", "", [(prompt, True)]) is None


def test_unknown_prompts_without_echo_get_the_available_secret() -> None:
    assert PromptAnswerer(BOTH, False).answer("", "", [("Geheimnis? ", False)]) == ["pw"]
    assert PromptAnswerer(Credentials(otp=Secret("1")), False).answer("", "", [("?", False)]) == ["1"]
    assert PromptAnswerer(Credentials(password=Secret("p")), False).answer("", "", [("One-time password: ", False)]) == ["p"]


@pytest.mark.parametrize("prompt", ["User name: ", "Continue? ", ""])
def test_unknown_prompts_with_echo_get_no_secret(prompt: str) -> None:
    answerer = PromptAnswerer(BOTH, False)
    assert answerer.answer("", "", [(prompt, True)]) is None
    assert repr(prompt.strip()) in answerer.reason


def test_a_code_does_not_answer_a_password_prompt() -> None:
    assert PromptAnswerer(Credentials(otp=Secret("1")), False).answer("", "", [("Password: ", False)]) is None
    assert PromptAnswerer(Credentials(password=Secret("p")), False).answer("", "", [("Verification code: ", False)]) is None


def test_a_secret_is_given_once() -> None:
    answerer = PromptAnswerer(BOTH, False)
    assert answerer.answer("", "", [("Password: ", False)]) == ["pw"]
    assert answerer.answer("", "", [("Password: ", False)]) is None
    assert "prompts again" in answerer.reason


def test_a_round_without_prompts_gets_an_empty_answer() -> None:
    answerer = PromptAnswerer(Credentials(), False)
    assert answerer.answer("", "", []) == [] and not answerer.answered


def test_ask_answers_other_prompts() -> None:
    asked: list[tuple[str, bool]] = []

    def ask(prompt: str, echo: bool) -> str | None:
        asked.append((prompt, echo))
        return None if "Never" in prompt else "typed"

    answerer = PromptAnswerer(Credentials(prompt=ask), True, "me@host")
    assert answerer.answer("Title", "Do this", [("Name: ", True)]) == ["typed"]
    assert asked == [("(me@host) Title\n(me@host) Do this\n(me@host) Name: ", True)]
    assert answerer.answer("", "", [("Never: ", False)]) is None
    assert PromptAnswerer(Credentials(prompt=ask), False).answer("", "", [("Name: ", True)]) is None
    assert len(asked) == 2


def test_prompts_are_shown_in_one_line() -> None:
    answerer = PromptAnswerer(Credentials(), False)
    answerer.answer("", "", [("\x1b[31mline\nline" + "x" * 200, True)])
    assert "\n" not in answerer.reason and "\x1b" not in answerer.reason and len(answerer.reason) < 140
