# SPDX-License-Identifier: BSD-2-Clause
"""The table on the terminal and the plot beside it."""

import math
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


def picture_rows(entries):
    """(caption, peer, ratio, target, met) of each row that has a caption, or of all if none has; a ratio says how much better nm is."""
    for work, row, r, _ in [e for e in entries if e[1].caption] or entries:
        if not r["ratio"] or row.better == "within":
            continue
        ratio, target = r["ratio"], r["target"]
        if row.better == "less":
            ratio, target = 1 / ratio, target and 1 / target
        placement = "" if r["placement"] in ("one-cpu", "near") else f", {r['placement']}"
        yield (row.caption or r["work"]) + placement, r["peer"], ratio, target, r["met"]


def plot(entries):
    """A bar for each row, from 1 (as fast as the peer) to what nm is against it, on a log scale; a stroke is its target."""
    rows = list(picture_rows(entries))
    left, width, step, top = 330, 290, 22, 34
    height = top + step * max(len(rows), 1) + 28
    most = max([2.0] + [ratio for _, _, ratio, _, _ in rows])
    ticks = [1 / 2] + [2**n for n in range(0, 11) if 2**n <= most * 1.2]

    def x(value):
        return left + width * math.log2(max(value, 0.5) * 2) / math.log2(most * 1.2 * 2)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {height}" width="900" height="{height}" font-family="sans-serif" font-size="12">',
           f'<rect width="900" height="{height}" fill="white"/>',
           '<text x="10" y="18" font-weight="bold">nm against what you have: times as fast, in one run, medians. Black: the target; green: met, red: missed</text>']
    for tick in ticks:
        out.append(f'<line x1="{x(tick):.0f}" y1="{top - 6}" x2="{x(tick):.0f}" y2="{height - 24}" stroke="{"#444" if tick == 1 else "#ddd"}"/>')
        out.append(f'<text x="{x(tick):.0f}" y="{height - 10}" text-anchor="middle" fill="#444">{tick:g}x</text>')
    for i, (caption, peer, ratio, target, met) in enumerate(rows):
        y = top + i * step
        a, b = sorted((x(1), x(ratio)))
        colour = {True: "#3a7d44", False: "#b3392f", None: "#5a7ca8"}[met]
        out.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(caption)}</text>')
        out.append(f'<rect x="{a:.1f}" y="{y}" width="{max(b - a, 1):.1f}" height="15" fill="{colour}"/>')
        if target:
            out.append(f'<line x1="{x(target):.1f}" y1="{y - 2}" x2="{x(target):.1f}" y2="{y + 17}" stroke="black" stroke-width="2"/>')
        out.append(f'<text x="{max(x(ratio), x(target or 1), x(1)) + 6:.1f}" y="{y + 12}"><tspan font-weight="bold">{ratio:.{0 if ratio >= 10 else 1 if ratio >= 1.2 else 2}f}x</tspan> {escape(peer)}</text>')
    return "\n".join(out + ["</svg>", ""])
