"""Daybreak moves a live PostgreSQL database to another server and back without losing a write."""

__version__ = "0.1.0"
