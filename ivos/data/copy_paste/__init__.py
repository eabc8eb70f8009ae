"""Copy-paste clips: video made of pieces of still pictures while training asks for it."""
