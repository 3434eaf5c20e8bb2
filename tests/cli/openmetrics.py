#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""openmetrics.py FILE [EXPRESSION]: FILE is OpenMetrics text 1.0.0, strictly (and python3-prometheus-client says so too, if it is
there), and the Python expression holds for `m`: {sample name: {((label, value), ...) in the order of their names: number}}.

openmetrics.py --self-test: texts that are none are found out."""
import re
import sys

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
META = re.compile(rf"# (TYPE|UNIT|HELP) ({NAME}) (.+)")
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)')
SUFFIXES = {"counter": ("_total", "_created"), "gauge": ("",)}


def labels_of(text):
    found, at = [], 0
    while at < len(text):
        match = LABEL.match(text, at)
        assert match, f"labels: {text!r}"
        value = re.sub(r"\\(.)", lambda e: {"n": "\n"}.get(e.group(1), e.group(1)), match.group(2))
        found.append((match.group(1), value))
        at = match.end()
        assert not (match.group(3) == "," and at == len(text)), f"a comma at the end: {text!r}"
    assert len({n for n, _ in found}) == len(found), f"a label twice: {text!r}"
    return tuple(sorted(found))


def check(raw):
    text = raw.decode("utf-8")
    assert text.endswith("\n# EOF\n") or text == "# EOF\n", "no # EOF at the end"
    families, samples, current, said = {}, {}, None, set()
    for line in text.split("\n")[:-2]:
        assert line and "\r" not in line and line != "# EOF", f"no line: {line!r}"
        if line.startswith("#"):
            match = META.fullmatch(line)
            assert match, f"neither TYPE, UNIT nor HELP: {line!r}"
            what, name, rest = match.groups()
            if name != current:
                assert name not in families, f"{name} is in two places"
                families[name], current, said = "unknown", name, set()
            assert what not in said and "sample" not in said, f"twice, or too late: {line!r}"
            said.add(what)
            if what == "TYPE":
                assert rest in SUFFIXES, f"type {rest}"
                families[name] = rest
            if what == "UNIT":
                assert name.endswith("_" + rest), f"{name} does not end with its unit {rest}"
            if what == "HELP":
                assert not re.search(r"\\[^\\n\"]", rest), f"escape in {line!r}"
            continue
        match = SAMPLE.fullmatch(line)
        assert match, f"no sample: {line!r}"
        name, inside, value = match.groups()
        assert current is not None, f"nothing is said of {name}"
        assert name in {current + s for s in SUFFIXES.get(families[current], ("",))}, f"{name} among {current}"
        said.add("sample")
        key = labels_of(inside or "")
        assert key not in samples.setdefault(name, {}), f"twice: {line!r}"
        number = float(value)
        assert families[current] != "counter" or number >= 0, f"a counter below nothing: {line!r}"
        samples[name][key] = number
    return samples


BAD = ["# TYPE a counter\na_total 1\n", "# TYPE a counter\na 1\n# EOF\n", '# TYPE a counter\na_total{b="\\x"} 1\n# EOF\n',
       "# TYPE a counter\na_total 1\na_total 1\n# EOF\n", "# TYPE a counter\n\na_total 1\n# EOF\n", "a 1\n# EOF\n",
       "# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\n# TYPE a gauge\n# EOF\n", "# TYPE a counter\na_total -1\n# EOF\n",
       "# TYPE a gauge\n# UNIT a bytes\na 1\n# EOF\n", "# TYPE a gauge\na 1\n# HELP a late\n# EOF\n", "# EOF\n# EOF\n",
       '# TYPE a gauge\na{b="1",b="2"} 1\n# EOF\n', '# TYPE a gauge\na{b="1",} 1\n# EOF\n', "# TYPE a gauge\na x\n# EOF\n"]


def self_test():
    good = '# TYPE a_bytes counter\n# UNIT a_bytes bytes\n# HELP a_bytes x\na_bytes_total{b="\\\\\\n\\""} 1\n# EOF\n'
    assert check(good.encode()) == {"a_bytes_total": {(("b", '\\\n"'),): 1.0}}
    for text in BAD:
        try:
            check(text.encode())
        except (AssertionError, ValueError):
            continue
        sys.exit(f"taken for good: {text!r}")


def main():
    if sys.argv[1] == "--self-test":
        return self_test()
    with open(sys.argv[1], "rb") as f:
        raw = f.read()
    try:
        m = check(raw)
    except AssertionError as e:
        sys.exit(f"{sys.argv[1]}: {e}")
    try:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families
    except ImportError:
        pass
    else:
        list(text_string_to_metric_families(raw.decode()))
    if len(sys.argv) > 2:
        total = lambda name, **which: sum(v for k, v in m.get(name, {}).items() if set(which.items()) <= set(k))
        if not eval(sys.argv[2], {"m": m, "total": total}):
            sys.exit(f"not so: {sys.argv[2]}\n{raw.decode()}")


main()
