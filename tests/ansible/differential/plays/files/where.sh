#!/bin/sh
echo "$0" | sed "s/ansible-tmp-[^/]*/X/"; stat -c %a "$0" "$(dirname "$0")"
