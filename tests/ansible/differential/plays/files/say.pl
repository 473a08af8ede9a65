#!/usr/bin/perl
print "perl $0\n" =~ s/ansible-tmp\S+/X/r;
