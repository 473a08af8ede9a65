#!/bin/bash
echo "$# $1 $2"
echo noise >&2
