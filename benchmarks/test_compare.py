#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What compare makes of samples, with made-up samples: nothing here is timed."""

import json
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

from harness import boundary, guest, ovs, report, rows, settings  # noqa: E402
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


    def test_a_row_for_information_has_a_ratio_and_no_verdict(self):
        row = work_with(rows.Row("p", rows.one(None))).rows[0]
        seen = evaluate(row, samples(**{"nm_one-cpu": [9, 9, 9], "p_one-cpu": [3, 3, 3]}))[0]
        self.assertEqual(list(seen), KEYS)
        self.assertEqual((seen["ratio"], seen["target"], seen["met"]), (3.0, None, None))
        unseen = evaluate(row, samples(**{"nm_one-cpu": [9, 9, 9]}))[0]
        self.assertEqual((unseen["ratio"], unseen["met"]), (None, None))


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
        self.assertEqual(kinds, {"channel", "process", "switch", "kernel", "vfio", "guest", "fused", "header"})


class Switch(unittest.TestCase):
    def works(self):
        return [w for w in rows.all_works() if w.name.startswith("switch")]

    def test_both_sides_of_a_ratio_see_the_same_traffic(self):
        for work in self.works():
            if work.setting == "plain" and work.name.startswith(("switch copy", "switch zero-copy")):
                self.assertGreaterEqual(len(work.contestants), 2)
                self.assertEqual({tuple(c.command[1:]) for c in work.contestants}, {tuple(work.contestants[0].command[1:])})

    def test_every_shape_is_there_and_batches_of_64_have_the_targets(self):
        found = {r.title: r for w in self.works() for r in w.rows}
        for shape in ("1 port, 1 station", "1 port, 256 stations", "8 ports, 1 station each", "8 ports, 256 stations"):
            for batch in (1, 64, 256):
                for kind, peer, ratio in (("copy", "DPDK rings + rte_hash, copy", 2.5), ("copy", "VALE's structure", 2.0),
                                          ("zero-copy", "DPDK rings + rte_hash, pointers", 2.3)):
                    row = found[f"switch {kind}, {shape}, batch {batch} vs {peer}"]
                    self.assertEqual(row.targets, {"one-cpu": ratio if batch == 64 else None})
        self.assertEqual(found["switch copy, 1 port, 1 station, batch 64 vs OVS-DPDK NORMAL"].targets, {"one-cpu": 4.0})
        self.assertEqual(found["switch with ten receivers, one stuck vs all read"].targets, {"one-cpu": 0.9})
        self.assertEqual(found["switch with 254 ports, one broadcaster vs none"].targets["near"], 0.9)

    def test_the_baseline_is_checked_for_every_shape(self):
        checks = [r for w in self.works() for r in w.rows if "baseline check" in r.work]
        self.assertEqual(len(checks), 4)
        self.assertTrue(all(r.better == "within" and 65 / 61 < r.targets["one-cpu"] < 79 / 55 for r in checks))

    def test_cost_is_in_ns_and_the_smallest_is_the_measure(self):
        cost = next(w for w in self.works() if w.name == "switch cost by ports")
        setting = settings.Plain(cost, None)
        text = '{"placement": "one-cpu", "rate": 50e6}'
        self.assertEqual(setting.parse(cost.contestants[0], text).rate, 20.0)
        self.assertEqual([(r.ours, r.peer) for r in cost.rows], [(f"{n} ports", "2 ports") for n in (8, 64, 254)])
        taken = [Sample(f"{n} ports", "one-cpu", ns) for n, ns in ((2, 20.0), (8, 25.0)) for _ in range(3)]
        self.assertEqual(evaluate(cost.rows[0], taken)[0]["ratio"], 1.25)


class OpenVSwitch(unittest.TestCase):
    def test_packets_of_the_polling_threads_only(self):
        text = "pmd thread numa_id 0 core_id 1:\n  packets received: 120\n  idle cycles: 7\nmain thread:\n  packets received: 5\n"
        self.assertEqual(ovs.packets_of(text), 120)
        self.assertEqual(ovs.packets_of(text.replace("core_id 1", "core_id 0") + text), 240)

    def test_hugepages_only_where_there_are_enough(self):
        self.assertIn("--no-huge", ovs.eal_arguments("HugePages_Free:        0\nHugepagesize:       2048 kB\n"))
        self.assertIn("--no-huge", ovs.eal_arguments("HugePages_Free:      511\nHugepagesize:       2048 kB\n"))
        self.assertNotIn("--no-huge", ovs.eal_arguments("HugePages_Free:      512\nHugepagesize:       2048 kB\n"))

    def test_says_which_package_is_missing(self):
        work = next(w for w in rows.all_works() if w.setting == "ovs")
        found, settings.ovs.found, root, settings.net.why_not = settings.ovs.found, lambda: None, settings.net.why_not, lambda: ""
        try:
            samples_, reasons, _ = settings.take(work, None, 3, say=lambda text: None)
        finally:
            settings.ovs.found, settings.net.why_not = found, root
        self.assertEqual(samples_, [])
        self.assertIn("package openvswitch-switch-dpdk not installed", reasons[""])


class Guest(unittest.TestCase):
    def works(self):
        return [w for w in rows.all_works() if w.setting == "guest"]

    def test_only_batches_of_64_have_the_target_and_both_sides_do_the_same_work(self):
        self.assertEqual({w.name.split(" batch")[0] for w in self.works()}, {w.name.split(" batch")[0] for w in self.works() if "batch 64" in w.name})
        for work in self.works():
            self.assertEqual([r.targets for r in work.rows], [{"one-cpu": 3.0 if "batch 64" in work.name else None}])
            ours, peer = work.contestants
            self.assertEqual((ours.side, peer.side), ("vfio", "kernel"))
            self.assertEqual(ours.command[3:], peer.command[1:])

    def test_each_side_has_nics_of_its_own_that_are_alike(self):
        nics = guest.Nics(["e1000", "virtio_net"])
        self.assertEqual(len(nics.qemu), 12)
        vfio, kernel = ([sorted(line.split("mac=")[1].split(",netdev")[0] for line in nics.qemu if f"addr={int(address[8:10], 16):x}," in line)
                         for _, _, address in nics.addresses[side]] for side in ("vfio", "kernel"))
        self.assertEqual(vfio, kernel)
        hubs = [line.split("hubid=")[1].split()[0] for line in nics.qemu if "hubid" in line]
        self.assertEqual({hubs.count(h) for h in hubs}, {2})
        self.assertEqual(nics.names["e1000", "vfio", "a"], "0000:00:04.0")
        self.assertEqual(nics.names["virtio_net", "kernel", "tx"], "$virtio_net_tx")

    def test_samples_are_taken_in_turn_in_one_script(self):
        work = self.works()[0]
        text, turns = guest.scenario([work], 2, 0.2)
        taken = [line.split()[1:3] for line in text.splitlines() if line.startswith("sample ")]
        self.assertEqual([n for n, _ in taken], [str(n) for n in range(12)])
        self.assertEqual([p for _, p in taken], 2 * (["bench-nic"] + 5 * ["bench-packet-nic"]))
        self.assertEqual([way for _, _, way in turns], ["", "send", "mmsg", "v2", "v3", "qdisc"])
        self.assertNotIn("virtio", text)
        self.assertNotIn("{", text.split("sample 0")[1])

    def test_the_best_way_counts_and_a_failure_is_a_reason(self):
        work = self.works()[0]
        _, turns = guest.scenario([work], 3, 0.2)
        said = {"": 900, "send": 10, "mmsg": 30, "v2": 20, "v3": None, "qdisc": 5}
        lines = [f"SAMPLE {n} " + (f'{{"rate": {said[turns[n % 6][2]]}}}' if said[turns[n % 6][2]] else "no ring") for n in range(18)]
        rates, reasons = guest.results("\n".join(["noise", "SAMPLE", *lines]), turns)
        boot = guest.Boot.__new__(guest.Boot)
        boot.reason, boot.rates, boot.reasons, boot.busy = "", rates, reasons, "; busy"
        where = type("Where", (), {"boot": boot})()
        samples_, why, _ = settings.take(work, where, 3, say=lambda text: None)
        result = evaluate(work.rows[0], samples_)[0]
        self.assertEqual((result["nm"], result["peer_rate"], result["met"], why), (900, 30, True, {}))
        self.assertEqual(work.rows[0].note, "mmsg is the best of (kpps): mmsg 0.03, v2 0.02, send 0.01, qdisc 0.005; busy")
        self.assertEqual(reasons[work.name, rows.AF_PACKET], f"{rows.AF_PACKET} v3: no ring")

    def test_without_a_guest_nothing_is_met(self):
        work = self.works()[0]
        boot = guest.Boot.__new__(guest.Boot)
        boot.reason, boot.rates, boot.reasons = guest.Boot.why(77, "skipped: not there: qemu\n"), {}, {}
        samples_, why, _ = settings.take(work, type("Where", (), {"boot": boot})(), 3, say=lambda text: None)
        self.assertEqual((samples_, why), ([], {"": "skipped: not there: qemu"}))
        self.assertIsNone(evaluate(work.rows[0], samples_)[0]["met"])
        self.assertEqual(guest.Boot.why(2, "vm.nics: INFRASTRUCTURE FAILURE: no\n-- the console\nx"), "vm.nics: INFRASTRUCTURE FAILURE: no")


class Boundary(unittest.TestCase):
    def works(self):
        return [w for w in rows.all_works() if w.setting == "boundary"]

    def test_larger_batches_have_the_target(self):
        found = {w.name: w.rows[0].targets for w in self.works() if "batch" in w.name}
        self.assertEqual(found, {f"guest {way} host, batch {n}": {"one-cpu": None if n == 1 else 20.0} for way in ("to", "from") for n in (1, 32, 256)})

    def test_one_guest_has_both_ways_to_the_host(self):
        text, turns = boundary.scenario(self.works(), 2, 0.2)
        self.assertEqual([line for line in text.splitlines() if line.startswith("#: tools")], ["#: tools bench-ptnet bench-packet-nic nm-host"])
        self.assertEqual(text.count("\nsample "), 2 * len(turns))
        self.assertIn("bench-ptnet --work to-host --a ptnet:0000:00:04.0 --batch 32 --seconds 0.2", text)
        self.assertIn("bench-packet-nic --work from-host --a $tap --batch 256 --mode v3 --seconds 0.2", text)
        self.assertNotIn("{", text.split("sample 0")[1])

    def test_what_a_program_said_is_noted(self):
        work = self.works()[1]
        turns = guest.plan([work])
        text = "\n".join(f'SAMPLE {n} {{"rate": {n + 1}, "note": "said {n}"}}' for n in range(3 * len(turns)))
        boot = guest.Boot.__new__(guest.Boot)
        boot.reason, boot.busy, boot.remarks = "", "", guest.remarks("noise\n" + text, turns)
        boot.rates, boot.reasons = guest.results(text, turns)
        samples_, why, _ = settings.take(work, type("Where", (), {"boundary_boot": boot})(), 3, say=lambda text: None)
        self.assertEqual((len(samples_), why), (9, {}))
        self.assertTrue(work.rows[0].note.startswith("nm: said 10; two processes in the guest: said 14; v3 is the best of"), work.rows[0].note)


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

    def test_a_row_for_information(self):
        work = work_with(rows.Row("p", rows.one(None)))
        seen = [(work, work.rows[0], r, "") for r in evaluate(work.rows[0], samples(**{"nm_one-cpu": [6e6] * 3, "p_one-cpu": [2e6] * 3}))]
        self.assertRegex(report.table(seen), r"3\.00x +- +3 +for information")
        self.assertEqual(report.summary(seen), "0 met, 0 missed, 0 not sampled, 1 for information")
        self.assertNotIn('stroke="black"', report.plot(seen))
        unseen = [(work, work.rows[0], r, "why") for r in evaluate(work.rows[0], [])]
        self.assertIn("not sampled (1)", report.table(unseen))

    def test_picture_has_rows_with_a_caption(self):
        def entry(**row):
            work = work_with(rows.Row("p", rows.one(0.5), **row))
            return (work, work.rows[0], evaluate(work.rows[0], samples(**{"nm_one-cpu": [1e6] * 3, "p_one-cpu": [4e6] * 3}))[0], "")

        both = [entry(caption="in short <3", better="less"), entry()]
        self.assertEqual(list(report.picture_rows(both)), [("in short <3", "p", 4.0, 2.0, True)])
        self.assertEqual(list(report.picture_rows(both[1:])), [("w", "p", 0.25, 0.5, False)])
        self.assertIn("in short &lt;3", report.plot(both))

    def test_plot_is_well_formed(self):
        xml.dom.minidom.parseString(report.plot(self.entries()))

    def test_json_round_trip(self):
        self.assertEqual([list(r) for r in json.loads(json.dumps([e[2] for e in self.entries()]))], [KEYS] * 2)


class Program(unittest.TestCase):
    def run_compare(self, *arguments):
        return subprocess.run([sys.executable, str(HERE / "compare"), *arguments], capture_output=True, text=True, timeout=20, check=False)

    def test_an_earlier_run_is_drawn_again(self):
        listed = self.run_compare("--list", "--picture").stdout.splitlines()
        self.assertTrue(12 <= len(listed) <= 24, listed)
        work, peer = listed[0].split(" vs ")
        result = dict(zip(KEYS, (work, peer, "near", 4e6, 1e6, 4.0, 3, 3.0, True), strict=True))
        with tempfile.TemporaryDirectory() as directory:
            kept, drawn = Path(directory) / "kept.json", Path(directory) / "drawn.svg"
            kept.write_text(json.dumps([result, dict(result, work="gone")]))
            done = self.run_compare("--from", str(kept), "--plot", str(drawn))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("1 met, 0 missed, 0 not sampled", done.stdout)
            self.assertEqual(drawn.read_text().count("<rect"), 2)

    def test_list_and_only(self):
        done = self.run_compare("--list", "--only", "^channel.* vs DPDK rte_ring")
        self.assertEqual(done.returncode, 0)
        self.assertTrue(done.stdout.splitlines())
        self.assertTrue(all(line.startswith("channel") and " vs DPDK rte_ring" in line for line in done.stdout.splitlines()))

    def test_a_quick_run_has_fewer_works_but_what_is_asked_for(self):
        everything, quick = (self.run_compare("--list", "--only", "^switch", *more).stdout.splitlines() for more in ([], ["--quick"]))
        self.assertLess(set(quick), set(everything))
        self.assertIn("switch copy, 8 ports, 256 stations, batch 64 vs VALE's structure", quick)
        self.assertTrue(self.run_compare("--list", "--quick", "--only", "Linux bridge").stdout)

    def test_nothing_matches(self):
        self.assertEqual(self.run_compare("--list", "--only", "no such row").returncode, 0)
        self.assertEqual(self.run_compare("--only", "no such row").returncode, 2)

    def test_says_how_to_build(self):
        done = self.run_compare("--bin", "/nowhere")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cmake --preset release", done.stderr)


if __name__ == "__main__":
    unittest.main()
