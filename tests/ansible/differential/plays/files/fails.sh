#!/bin/sh
echo before
echo err >&2
kill -9 $$
