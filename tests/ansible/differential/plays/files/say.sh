#!/bin/bash
echo "args: $# [$1] [$2] [$3] in $PWD with $VAR"
tty >/dev/null && echo terminal
echo "to stderr" >&2
