"""Undo a batch: end what it opened, and open what it ended, unless a later request decides."""
