from __future__ import absolute_import, division, print_function
__metaclass__ = type

from . import NAME

from ansible.module_utils.common.text.converters import to_text

PLACE = NAME


def text_of(value):
    return to_text(value) + '!'
