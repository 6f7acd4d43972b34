"""Sends members' money over Lightning: the port to a Lightning node and what speaks to LND through it."""
