"""Return whether the long form of the fault and fuzz tests is requested."""

import os

LONG = os.environ.get("IVOS_LONG_TESTS") == "1"
