"""Stratum V1: sockets, sessions, difficulty, identity of devices. Shares themselves are judged in `native.channel`."""
