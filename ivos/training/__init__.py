"""Training of A-Net and T-Net: the stages as LightningModules, and the pipeline that runs them."""
