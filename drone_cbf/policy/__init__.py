"""Policies: graph -> nominal command."""
