# SPDX-License-Identifier: BSD-2-Clause
"""The table on the terminal and the plot beside it."""

from html import escape

SIGN = {"more": ">=", "less": "<=", "within": "~"}
SCALE = {"Mpps": 1e6, "Gb/s": 1e9}
VERDICT = {True: "met", False: "MISSED"}


def verdict_on(result):
    return "not sampled" if result["ratio"] is None else VERDICT.get(result["met"], "for information")


def number(value, unit=""):
    if value is None:
        return "-"
    value /= SCALE.get(unit, 1)
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}" if value < 10 else f"{value:.1f}"


def table(entries):
    """`entries`: (work, row, result, reason) tuples, in the order to print."""
    head = ("work", "peer", "placement", "nm", "peer", "unit", "ratio", "target", "samples", "")
    lines = [head]
    notes = []
    for work, row, result, reason in entries:
        verdict = verdict_on(result)
        remark = reason or row.note
        if remark:
            if remark not in notes:
                notes.append(remark)
            verdict += f" ({notes.index(remark) + 1})"
        lines.append((result["work"], result["peer"], result["placement"], number(result["nm"], work.unit),
                      number(result["peer_rate"], work.unit), work.unit,
                      "-" if result["ratio"] is None else f"{result['ratio']:.2f}x",
                      "-" if result["target"] is None else f"{SIGN[row.better]} {result['target']:.2f}x", str(result["samples"]), verdict))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    right = {3, 4, 6, 7, 8}
    text = []
    for n, line in enumerate(lines):
        text.append("  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip())
        if n == 0:
            text.append("-" * len(text[0]))
    text += [f"({i + 1}) {note}" for i, note in enumerate(notes)]
    return "\n".join(text)


def summary(entries):
    results = [r for _, _, r, _ in entries]
    missed = [f"{r['work']} vs {r['peer']} ({r['placement']}): {r['ratio']:.2f}x, target {r['target']:.2f}x"
              for r in results if r["met"] is False]
    verdicts = [verdict_on(r) for r in results]
    text = [", ".join(f"{verdicts.count(v)} {v if v != 'MISSED' else 'missed'}" for v in ("met", "MISSED", "not sampled", "for information")
                      if v != "for information" or v in verdicts)]
    return "\n".join(text + [f"MISSED {m}" for m in missed])


def plot(entries):
    """Bars of ratio / target (target / ratio where less is better): the line at 1 is the target, on a log scale 1/4 to 4."""
    rows = [(w, row, r) for w, row, r, _ in entries if r["ratio"] and r["target"] and row.better != "within"]
    left, width, step = 460, 400, 22
    height = 60 + step * max(len(rows), 1)

    def x(value):
        import math
        return left + width * (math.log2(min(max(value, 0.25), 4)) + 2) / 4

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 130}" height="{height}" '
           'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>']
    for tick in (0.25, 0.5, 1, 2, 4):
        out.append(f'<line x1="{x(tick):.0f}" y1="24" x2="{x(tick):.0f}" y2="{height - 26}" stroke="{"black" if tick == 1 else "#ccc"}"/>')
        out.append(f'<text x="{x(tick):.0f}" y="{height - 10}" text-anchor="middle">{tick:g}x target</text>')
    for i, (work, row, r) in enumerate(rows):
        value = r["target"] / r["ratio"] if row.better == "less" else r["ratio"] / r["target"]
        y, colour = 28 + i * step, "#3a7d44" if r["met"] else "#b3392f"
        a, b = sorted((x(1), x(value)))
        out.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(r["work"])} vs {escape(r["peer"])}, {r["placement"]}</text>')
        out.append(f'<rect x="{a:.1f}" y="{y}" width="{max(b - a, 1):.1f}" height="15" fill="{colour}"/>')
        out.append(f'<text x="{left + width + 8}" y="{y + 12}">{r["ratio"]:.2f}x of {SIGN[row.better]} {r["target"]:.2f}x</text>'
                   .replace(">=", "&gt;=").replace("<=", "&lt;="))
    return "\n".join(out + ["</svg>", ""])
