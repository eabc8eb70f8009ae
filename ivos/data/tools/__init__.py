"""Command-line tools that check and convert data sets."""
