"""Training clips made by pasting objects onto photographs."""
