"""Where things are in the checkout."""

import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
BIN = Path(sys.executable).parent
"""The programs of the virtual environment."""
