from __future__ import absolute_import, division, print_function
__metaclass__ = type

SHADOW = 'the role took the place of a core file'


def get_all_subclasses(cls):
    subclasses = set(cls.__subclasses__())
    for each in list(subclasses):
        subclasses |= get_all_subclasses(each)
    return subclasses
