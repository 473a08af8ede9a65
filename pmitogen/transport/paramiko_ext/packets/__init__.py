"""The binary packets of RFC 4253 section 6: ciphers, their keys, compression, limits and timers.

Begin with packetizer.py, which reads; outbound.py writes.
"""
