"""Reports of evaluations, to compare."""

import json

import pandas as pd


def without_times(folder):
    """report.csv, rounds.csv and the curve of summary.json, all but what a clock measured."""
    report = pd.read_csv(folder / "report.csv", index_col=0)
    summary = json.loads((folder / "summary.json").read_text())
    curve = {key: value for key, value in summary["curve"].items() if key != "time"}
    return report.drop(columns="timing").to_csv(), (folder / "rounds.csv").read_text(), curve
