from __future__ import absolute_import, division, print_function
__metaclass__ = type

from . import VERSION
from .other import answer


def deep():
    return '%s and %s' % (VERSION, answer)
