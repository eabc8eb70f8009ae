"""Output formats of the leaderboard: CSV, Markdown, LaTeX and a self-contained HTML page."""

import base64
import csv
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ivos.runtime.errors import UserError

if TYPE_CHECKING:
    from ivos.evaluation.leaderboard import Run

Rows = Sequence[Mapping[str, str]]
_WORST_FRAMES = 3  # number of worst frames shown for each run
_WORDS = ("run", "segmenter", "network", "protocol", "metric", "weights", "machine", "source")
_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f")


def as_csv(columns: Sequence[str], rows: Rows) -> str:
    """Return the table as comma-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(columns: Sequence[str], rows: Rows) -> str:
    """Return the table in Markdown; the name of a row is followed by the reason why it is not comparable."""
    lines = [list(columns), ["---" if name in _WORDS else "--:" for name in columns]]
    lines += [[_named(row, name) for name in columns] for row in rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _named(row: Mapping[str, str], column: str) -> str:
    """Return the text of a cell; the name includes the reason why the row is not comparable."""
    reason = row.get("not comparable", "")
    return f"{row[column]} ({reason})" if column == "run" and reason else str(row[column])


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def as_latex(columns: Sequence[str], rows: Rows) -> str:
    """Return the table in LaTeX for the package booktabs.

    The best value of each column among the comparable rows of a protocol is bold. Protocols are headings
    instead of a column. Notes below the table give the sources of published rows and the reasons why other
    rows are not comparable.
    """
    shown = [name for name in columns if name not in ("protocol", "source")]
    notes = list(dict.fromkeys(filter(None, map(_note, rows))))
    kinds = "".join("l" if name in _WORDS else "r" for name in shown)
    lines = [
        r"{\footnotesize\setlength{\tabcolsep}{3.5pt}",
        f"\\begin{{tabular}}{{@{{}}{kinds}@{{}}}}",
        r"\toprule",
        " & ".join(_escaped(name) for name in shown) + r" \\",
    ]
    for place, row in enumerate(rows):
        protocol = row.get("protocol", "")
        if not place or protocol != rows[place - 1].get("protocol"):
            lines.append(r"\midrule")
            if "protocol" in columns:
                lines.append(
                    f"\\multicolumn{{{len(shown)}}}{{@{{}}l}}{{\\textit{{{_escaped(protocol)}}}}} \\\\"
                )
        cells = [_latex_cell(row, name, rows, notes) for name in shown]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [f"\\par $^{{{_mark(number)}}}$ {_escaped(note)}" for number, note in enumerate(notes)]
    return "\n".join(lines) + "\n}\n"


def _latex_cell(row: Mapping[str, str], name: str, rows: Rows, notes: Sequence[str]) -> str:
    """Return a LaTeX cell, with the name of a network without its owner, and with the mark of a note."""
    text = str(row[name])
    if name == "network":
        text = text.rpartition("/")[2]
    cell = _escaped(text)
    if name == "run" and (note := _note(row)):
        cell += f"$^{{{_mark(notes.index(note))}}}$"
    return f"\\textbf{{{cell}}}" if _is_best(row, name, rows) else cell


def _note(row: Mapping[str, str]) -> str:
    """Return the note of a row below the table, without its protocol, which is in the heading."""
    parts = row.get("not comparable", "").split("; ")
    reasons = "; ".join(part for part in parts if not part.startswith("another protocol"))
    return ": ".join(filter(None, (reasons, row.get("source", ""))))


def _mark(number: int) -> str:
    """Return the mark of a note: a to z, then aa, ab, ..."""
    letters = chr(ord("a") + number % 26)
    return _mark(number // 26 - 1) + letters if number >= 26 else letters


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _is_best(row: Mapping[str, str], column: str, rows: Rows) -> bool:
    """Return whether a cell has the best value of its column among the comparable rows of its protocol."""
    if column in _WORDS or row.get("not comparable") or not row[column]:
        return False
    same = [
        float(other[column])
        for other in rows
        if other.get("protocol") == row.get("protocol") and not other.get("not comparable") and other[column]
    ]
    best = min(same) if column in ("seconds", "calibration") or column.startswith("s ") else max(same)
    return len(same) > 1 and float(row[column]) == best


def as_html(columns: Sequence[str], rows: Rows, runs: Sequence["Run"]) -> str:
    """Return an HTML page with the table, the curves and the worst frames.

    On screens narrower than 800 pixels, each row of the table is shown as a card.
    """
    head = "".join(
        f'<th{_kind(name)} aria-sort="none"><button type="button">{html.escape(name)}</button></th>'
        for name in columns
    )
    body = "".join(_html_row(columns, row, rows) for row in rows)
    options = "".join(f'<option value="{at}">{html.escape(name)}</option>' for at, name in enumerate(columns))
    parts = []
    for protocol in dict.fromkeys(run.protocol for run in runs):
        mine = [run for run in runs if run.protocol == protocol]
        several = any(len(run.rounds) > 1 for run in mine)
        parts.append(f"<h2>{html.escape(protocol)}</h2>{_curves(mine) if several else ''}")
        for run in mine:
            named = " ".join(filter(None, (run.segmenter, run.network)))
            title = html.escape(f"{run.name}: {named}")
            pictures = [(run.folder / "curve.png", "curve"), *worst_frames(run)]
            shown = "".join(_picture(path, words) for path, words in pictures if path.exists())
            parts.append(f"<section><h3>{title}</h3><div>{shown}</div></section>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Leaderboard</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style><h1>Leaderboard</h1>"
        '<label class="sort">Sort by <select><option value="">default order</option>'
        f"{options}</select></label>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{''.join(parts)}"
        f"<script>{_SCRIPT}</script></html>\n"
    )


def _html_row(columns: Sequence[str], row: Mapping[str, str], rows: Rows) -> str:
    cells = ""
    for name in columns:
        content = html.escape(str(row[name]))
        if name == "run" and (reason := row.get("not comparable")):
            content += f'<small title="not comparable">{html.escape(reason)}</small>'
        content = f"<b>{content}</b>" if _is_best(row, name, rows) else content
        cells += f'<td{_kind(name)} data-name="{html.escape(name)}">{content}</td>'
    return f"<tr>{cells}</tr>"


_STYLE = (
    "*{box-sizing:border-box}"
    "body{font:14px/1.4 system-ui,sans-serif;margin:1.5em auto;max-width:1360px;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "td,th{padding:.3em .5em;border-bottom:1px solid #ddd;text-align:right;vertical-align:top}"
    "th{border-bottom:2px solid #888;white-space:nowrap}.words{text-align:left}"
    "td[data-name=run],td[data-name=network]{overflow-wrap:anywhere;min-width:9em}"
    "td[data-name=source]{min-width:12em}"
    "td small{display:block;color:#a33;font-weight:400}"
    "th button{font:inherit;font-weight:600;border:0;background:none;padding:0;cursor:pointer;color:inherit;"
    "text-align:inherit}th[aria-sort=ascending] button::after{content:' \\25B2'}"
    "th[aria-sort=descending] button::after{content:' \\25BC'}"
    ".sort{display:none;margin-bottom:.6em}"
    "h2{margin:1.6em 0 .3em}h3{margin:1em 0 .2em;overflow-wrap:anywhere}"
    "section div{display:flex;flex-wrap:wrap;gap:.8em}"
    "figure{margin:0;max-width:100%}img{height:150px;max-width:100%;object-fit:contain}figcaption{color:#555}"
    "svg{height:auto;max-width:100%}"
    "@media(max-width:800px){thead{display:none}td[data-name]{min-width:0;overflow-wrap:anywhere}"
    ".sort{display:block}select{font:inherit;max-width:100%}"
    "table,tbody,tr,td{display:block}"
    "tr{border:1px solid #ccc;border-radius:6px;margin-bottom:.8em;padding:.4em}"
    "td{display:flex;justify-content:space-between;gap:0 1em;border:0;padding:.1em .3em}"
    "td::before{content:attr(data-name);color:#666;flex:none}td:first-child{font-weight:600}"
    "td small{text-align:right;flex-basis:100%}td:first-child{flex-wrap:wrap}td:empty{display:none}}"
)
_SCRIPT = """
const body = document.querySelector("tbody"), given = [...body.rows];
const heads = [...document.querySelectorAll("th")], select = document.querySelector("select");
let last = -1, down = true;
function sort(column) {
  down = column === last ? !down : true;
  last = column;
  const value = (row) => row.cells[column].textContent;
  const number = (row) => parseFloat(value(row));
  const numeric = given.some((row) => !isNaN(number(row))) && !heads[column].classList.contains("words");
  const rows = [...given].sort((a, b) => {
    if (!value(a) || !value(b)) return !value(a) - !value(b);
    const order = numeric ? number(b) - number(a) : value(a).localeCompare(value(b));
    return down ? order : -order;
  });
  body.append(...rows);
  const way = down === numeric ? "descending" : "ascending";
  heads.forEach((head, at) => head.setAttribute("aria-sort", at === column ? way : "none"));
}
heads.forEach((head, at) => head.firstChild.addEventListener("click", () => sort(at)));
select.addEventListener("change", () => {
  if (select.value === "") body.append(...given);
  else { last = -1; sort(Number(select.value)); }
});
"""


def _kind(column: str) -> str:
    return ' class="words"' if column in _WORDS else ""


def _curves(runs: Sequence["Run"]) -> str:
    """Return an SVG plot of the metric of runs after each round."""
    width, height, left, bottom = 560, 260, 40, 30
    rounds = max(len(run.rounds) for run in runs)

    def at(number: int, value: float) -> str:
        x = left + (number - 0.5) * (width - left - 10) / rounds
        return f"{x:.1f},{10 + (1 - value) * (height - bottom - 10):.1f}"

    drawn = ""
    for tick in range(6):
        y = at(1, tick / 5).split(",")[1]
        drawn += f'<path d="M{left} {y}H{width}" stroke="#ddd"/>'
        drawn += f'<text x="{left - 6}" y="{y}" dy="4" text-anchor="end">{tick / 5:.1f}</text>'
    for number in range(1, rounds + 1):
        x = at(number, 0).split(",")[0]
        drawn += f'<text x="{x}" y="{height - 8}" text-anchor="middle">{number}</text>'
    legend = ""
    for place, run in enumerate(runs):
        colour = _COLOURS[place % len(_COLOURS)]
        points = [at(n, value) for n, value in enumerate(run.rounds, 1)]
        drawn += f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for point in points:
            x, y = point.split(",")
            drawn += f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>'
        legend += f'<span style="color:{colour}">\u25cf</span> {html.escape(run.name)} &ensp;'
    said = html.escape(" and ".join(dict.fromkeys(run.row()["metric"] for run in runs)))
    frame = f'viewBox="0 0 {width} {height}" width="{width}" font-size="12"'
    return (
        f'<svg {frame} role="img" aria-label="{said} by round">{drawn}</svg><p>{said} by round: {legend}</p>'
    )


def worst_frames(run: "Run") -> list[tuple[Path, str]]:
    """Return overlays of the worst frames after the last round, at most one per sequence, with captions."""
    import pandas as pd

    if not (run.folder / "overlays").is_dir():
        return []
    column = {"J": "jaccard", "F": "contour", "J_AND_F": "j_and_f"}[run.metric]
    try:
        report = pd.read_csv(run.folder / "report.csv", index_col=0, dtype={"sequence": str})
    except (OSError, ValueError) as error:
        raise UserError(f"{run.folder / 'report.csv'}: unreadable ({error})") from error
    keys = ["sequence", "scribble_idx"]
    last = report[report["interaction"] == report.groupby(keys)["interaction"].transform("max")]
    means = last.groupby([*keys, "interaction", "frame"])[column].mean().reset_index().sort_values(column)
    found = []
    for row in means.drop_duplicates("sequence").head(_WORST_FRAMES).to_dict("records"):
        name = f"{row['scribble_idx']:03d}/{row['interaction']:02d}/{row['frame']:05d}.jpg"
        words = f"{row['sequence']}, frame {row['frame']}: {row[column]:.2f}"
        found.append((run.folder / "overlays" / str(row["sequence"]) / name, words))
    return found


def _picture(path: Path, words: str) -> str:
    kind = "png" if path.suffix == ".png" else "jpeg"
    data = base64.b64encode(path.read_bytes()).decode()
    said = html.escape(words)
    image = f'<img alt="{said}" src="data:image/{kind};base64,{data}">'
    return f"<figure>{image}<figcaption>{said}</figcaption></figure>"
