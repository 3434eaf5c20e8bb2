#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What compare makes of samples, with made-up samples: nothing here is timed."""

import json
import subprocess
import sys
import unittest
import xml.dom.minidom
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

from harness import report, rows, settings  # noqa: E402
from harness.evaluate import Sample, evaluate  # noqa: E402

KEYS = ["work", "peer", "placement", "nm", "peer_rate", "ratio", "samples", "target", "met"]


def work_with(row):
    return rows.Work("w", "Mpps", [rows.Contestant("nm", ["x"]), rows.Contestant("p", ["y"])], [row])


def samples(**rates):
    """samples(nm_near=[...], p_near=[...])"""
    return [Sample(*name.split("_"), rate) for name, values in rates.items() for rate in values]


class Evaluate(unittest.TestCase):
    def test_ratio_of_medians_per_placement(self):
        row = work_with(rows.Row("p", rows.two(3.0, 2.0))).rows[0]
        near, far = evaluate(row, samples(nm_near=[30e6, 31e6, 900e6], p_near=[10e6, 10e6, 1e6], nm_far=[5, 5, 5], p_far=[4, 4, 4]))
        self.assertEqual(list(near), KEYS)
        self.assertEqual((near["placement"], near["nm"], near["peer_rate"], near["ratio"], near["samples"], near["met"]),
                         ("near", 31e6, 10e6, 3.1, 3, True))
        self.assertEqual((far["placement"], far["ratio"], far["target"], far["met"]), ("far", 1.25, 2.0, False))

    def test_a_placement_that_was_not_seen_is_not_met(self):
        row = work_with(rows.Row("p", rows.two(3.0, 2.0))).rows[0]
        near, far = evaluate(row, samples(nm_near=[9, 9, 9], p_near=[1, 1, 1]))
        self.assertTrue(near["met"])
        self.assertEqual((far["nm"], far["ratio"], far["samples"], far["met"]), (None, None, 0, None))

    def test_one_side_alone_or_one_stray_sample_is_not_met(self):
        row = work_with(rows.Row("p", rows.two(3.0))).rows[0]
        self.assertIsNone(evaluate(row, samples(nm_near=[9, 9, 9]))[0]["met"])
        self.assertIsNone(evaluate(row, samples(nm_near=[9, 9, 9], p_near=[1]))[0]["met"])
        self.assertIsNone(evaluate(row, samples(nm_near=[9, 9, 9], p_far=[1, 1, 1]))[0]["met"])

    def test_siblings_only_where_seen(self):
        row = work_with(rows.Row("p", rows.two(3.0, 2.0))).rows[0]
        results = evaluate(row, samples(nm_sibling=[9, 9, 9], p_sibling=[1, 1, 1]))
        self.assertEqual({r["placement"]: r["met"] for r in results}, {"near": None, "sibling": True, "far": None})

    def test_less_is_better(self):
        row = work_with(rows.Row("p", rows.one(1.02), better="less")).rows[0]
        self.assertTrue(evaluate(row, [Sample("nm", "one-cpu", 101), Sample("p", "one-cpu", 100)], 1)[0]["met"])
        self.assertFalse(evaluate(row, [Sample("nm", "one-cpu", 103), Sample("p", "one-cpu", 100)], 1)[0]["met"])

    def test_within_a_quarter(self):
        row = work_with(rows.Row("p", rows.one(0.71), better="within")).rows[0]
        for rate, met in ((71, True), (88, True), (54, True), (90, False), (52, False)):
            self.assertEqual(evaluate(row, [Sample("nm", "one-cpu", rate), Sample("p", "one-cpu", 100)], 1)[0]["met"], met)


class Rows(unittest.TestCase):
    def test_every_row_names_its_contestants_and_has_a_title_of_its_own(self):
        titles = [r.title for w in rows.all_works() for r in w.rows]
        self.assertEqual(len(titles), len(set(titles)))
        for work in rows.all_works():
            names = {c.name for c in work.contestants}
            for row in work.rows:
                self.assertLessEqual({row.ours, row.peer}, names, row.title)

    def test_work_names_begin_as_the_rows_are_called(self):
        kinds = {r.work.split()[0] for w in rows.all_works() for r in w.rows}
        self.assertEqual(kinds, {"channel", "kernel", "fused", "header"})


class Take(unittest.TestCase):
    class Fake:
        """nm is disturbed every other time, p cannot run."""

        def __init__(self, *_):
            self.taken = []

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def sample(self, contestant):
            if contestant.name == "p":
                raise settings.Unavailable("p is not built")
            self.taken.append(contestant.name)
            return Sample(contestant.name, "disturbed" if len(self.taken) % 2 else "near", 1.0)

    def test_dropped_samples_are_taken_again_and_absent_peers_asked_once(self):
        work = work_with(rows.Row("p", rows.two(3.0)))
        work.setting = "fake"
        settings.SETTINGS["fake"] = self.Fake
        samples_, reasons, dropped = settings.take(work, None, 3, say=lambda text: None)
        self.assertEqual([s.placement for s in samples_], ["near"] * 3)
        self.assertEqual(reasons, {"p": "p is not built"})
        self.assertEqual(dropped, {"disturbed": 3})


class Report(unittest.TestCase):
    def entries(self):
        work = work_with(rows.Row("p", rows.two(3.0, 2.0)))
        results = evaluate(work.rows[0], samples(nm_near=[20e6] * 3, p_near=[10e6] * 3))
        return [(work, work.rows[0], r, "no such luck" if r["met"] is None else "") for r in results]

    def test_table(self):
        text = report.table(self.entries())
        self.assertIn("20.0", text)
        self.assertIn("MISSED", text)
        self.assertIn("not sampled (1)", text)
        self.assertIn("(1) no such luck", text)
        self.assertIn("0 met, 1 missed, 1 not sampled", report.summary(self.entries()))

    def test_plot_is_well_formed(self):
        xml.dom.minidom.parseString(report.plot(self.entries()))

    def test_json_round_trip(self):
        self.assertEqual([list(r) for r in json.loads(json.dumps([e[2] for e in self.entries()]))], [KEYS] * 2)


class Program(unittest.TestCase):
    def run_compare(self, *arguments):
        return subprocess.run([sys.executable, str(HERE / "compare"), *arguments], capture_output=True, text=True, timeout=20, check=False)

    def test_list_and_only(self):
        done = self.run_compare("--list", "--only", "^channel.* vs rte_ring")
        self.assertEqual(done.returncode, 0)
        self.assertTrue(done.stdout.splitlines())
        self.assertTrue(all(line.startswith("channel") and " vs rte_ring" in line for line in done.stdout.splitlines()))

    def test_nothing_matches(self):
        self.assertEqual(self.run_compare("--list", "--only", "no such row").returncode, 0)
        self.assertEqual(self.run_compare("--only", "no such row").returncode, 2)

    def test_says_how_to_build(self):
        done = self.run_compare("--bin", "/nowhere")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cmake --preset release", done.stderr)


if __name__ == "__main__":
    unittest.main()
