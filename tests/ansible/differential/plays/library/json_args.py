#!/usr/bin/python
import json
import sys

arguments = json.loads('''<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>''')
print(json.dumps({'changed': False, 'seen': sorted(key for key in arguments if not key.startswith('_')), 'text': arguments.get('text'),
                  'argv': len(sys.argv)}))
