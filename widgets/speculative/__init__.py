"""Lesson 04: what becomes of each guess, who works when, and the bug hunt."""

from widgets.speculative.acceptance import AcceptanceExplorer
from widgets.speculative.hunt import BugHunt, Meters
from widgets.speculative.rounds import rounds_film, turns_film

__all__ = ["AcceptanceExplorer", "BugHunt", "Meters", "rounds_film", "turns_film"]
