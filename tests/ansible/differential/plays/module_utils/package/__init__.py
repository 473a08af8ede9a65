from __future__ import absolute_import, division, print_function
__metaclass__ = type

VERSION = '1.2'
