"""Data sets and their LightningDataModules: DAVIS layout, synthetic video."""
