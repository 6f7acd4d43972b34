"""Decisions about miners, work and members' money."""
