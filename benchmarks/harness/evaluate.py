# SPDX-License-Identifier: BSD-2-Clause
"""From samples to rows: medians, ratios, and whether a target is met. No machine is touched here."""

from dataclasses import dataclass
from statistics import median

# Fewer than this on either side and the placement counts as not sampled: one stray sample is no evidence.
MIN_SAMPLES = 3
TWO_CPU = ("near", "far")


@dataclass
class Sample:
    contestant: str
    placement: str
    rate: float


def is_met(ratio, target, better):
    if better == "less":
        return ratio <= target
    if better == "within":
        return abs(ratio / target - 1) <= 0.25
    return ratio >= target


def placements(row, samples):
    """Every placement with a target, seen or not; siblings only when seen, they are a rarity of the hypervisor."""
    seen = {s.placement for s in samples}
    return [p for p in row.targets if p in seen or p != "sibling"]


def evaluate(row, samples, minimum=MIN_SAMPLES):
    results = []
    for placement in placements(row, samples):
        def rates(name):
            return [s.rate for s in samples if s.contestant == name and s.placement == placement]

        ours, peers = rates(row.ours), rates(row.peer)
        count = min(len(ours), len(peers))
        result = {
            "work": row.work, "peer": row.peer, "placement": placement, "nm": median(ours) if ours else None,
            "peer_rate": median(peers) if peers else None, "ratio": None, "samples": count,
            "target": None, "met": None,
        }
        target = row.targets[placement]  # None: the row is there for information
        if count >= minimum and result["peer_rate"]:
            result["ratio"] = result["nm"] / result["peer_rate"]
        if target is not None:
            result["target"] = round(target, 3)
            if result["ratio"] is not None:
                result["met"] = is_met(result["ratio"], target, row.better)
        results.append(result)
    return results
