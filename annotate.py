"""Annotate video in the browser: ``uv run annotate.py video=FILE``."""

from ivos.app.main import main

if __name__ == "__main__":
    main()
