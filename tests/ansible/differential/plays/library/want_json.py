#!/usr/bin/python
# WANT_JSON
import json
import sys

with open(sys.argv[1]) as stream:
    arguments = json.load(stream)
print(json.dumps({'changed': True, 'seen': sorted(key for key in arguments if not key.startswith('_')), 'text': arguments.get('text')}))
