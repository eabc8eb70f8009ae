"""Copy-paste clips: synthetic video composed of pieces of still pictures during training."""
