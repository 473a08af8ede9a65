from __future__ import annotations


class FilterModule:
    def filters(self):
        return {'louder': lambda text: text.upper()}
