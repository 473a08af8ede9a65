#!/bin/sh
# Says nothing of what it is going to do on its command line.
usermod -a -G "$2" "$1" && echo done
