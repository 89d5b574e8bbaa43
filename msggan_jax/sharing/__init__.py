"""Exports, released generators, cards and files of other implementations."""
