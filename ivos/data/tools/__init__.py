"""Command-line tools that check or convert data sets."""
