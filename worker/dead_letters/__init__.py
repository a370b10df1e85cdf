"""Keep what could not be understood or processed, whole and with its reason."""
