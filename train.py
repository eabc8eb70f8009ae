"""Train A-Net and T-Net: ``uv run train.py`` or ``uv run train.py experiment=anet data.root=FOLDER``."""

from ivos.training.main import main

if __name__ == "__main__":
    main()
