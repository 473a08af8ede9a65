"""The options of become plugins as arguments of a plan."""

from __future__ import annotations

from pmitogen.flags.ansible_become_options import become_options
from pmitogen.flags.become.plan import plan


class Tagged(str):
    """A str subclass, as in values of ansible-core 2.19 and later."""


def test_the_defaults_of_the_sudo_plugin_make_a_plan() -> None:
    args = become_options(
        {"become_user": "root", "become_exe": "sudo", "become_flags": "-H -S -n", "become_pass": None, "sudo_chdir": None}
    )
    made, _ = plan("sudo", timeout=10, **args)
    assert (made["user"], made["secrets"], made["chdir"]) == ("root", [], None)
    assert made["argv"][0] == "sudo" and "-H" in made["argv"]


def test_every_option_reaches_the_plan() -> None:
    args = become_options(
        {
            "become_user": Tagged("bob"),
            "become_exe": Tagged("/opt/sudo"),
            "become_flags": Tagged("-H"),
            "become_pass": 1234,
            "sudo_chdir": Tagged("/tmp"),
            "prompt_l10n": [Tagged("Kennwort"), "Passwort"],
        }
    )
    assert args == {
        "exe": "/opt/sudo",
        "flags": "-H",
        "user": "bob",
        "password": "1234",
        "chdir": "/tmp",
        "prompt_l10n": ("Kennwort", "Passwort"),
    }
    assert all(type(value) in (str, tuple) for value in args.values())


def test_options_that_a_plugin_lacks_are_unset() -> None:
    assert become_options({"become_flags": ""}) == {
        "exe": None,
        "flags": None,
        "user": None,
        "password": None,
        "chdir": None,
        "prompt_l10n": (),
    }


def test_a_single_prompt_need_not_be_a_list() -> None:
    assert become_options({"prompt_l10n": "Kennwort"})["prompt_l10n"] == ("Kennwort",)
