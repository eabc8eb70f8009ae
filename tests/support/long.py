"""Whether the long form of the fault and fuzz tests is asked for, as in a nightly run."""

import os

LONG = os.environ.get("IVOS_LONG_TESTS") == "1"
