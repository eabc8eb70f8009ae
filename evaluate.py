"""Evaluate by the DAVIS interactive protocol: ``uv run evaluate.py checkpoint=FILE data.root=FOLDER``."""

from ivos.evaluation.main import main

if __name__ == "__main__":
    main()
