# SPDX-License-Identifier: BSD-2-Clause
"""A check that cannot fail proves nothing: documents that are right, and wrong in each way."""
import pathlib
import shutil
import tempfile

from documents import terminals
from documents.blocks import marked, typed
from documents.snippets import compile_snippets

# (a document, a part of what is to be said of it or None)
STATIC = [
    ("```sh test\nscripts/there\n```\n", None),
    ("```sh test\nscripts/gone\n```\n", "there is no scripts/gone"),
    ("```sh guest\nsudo ip netns exec a build/release/bin/gone -i x\n```\n", "there is no program"),
    ("```sh\nscripts/there\n```\n", "this block is for nobody"),
    ("```sh hardware\nscripts/there\n```\n", "there is no mark `hardware`"),
    ("```sh qemu eth1\n-device x\n```\n", "there is no mark `qemu eth1`"),
    ("```sh terminals eth1=nowhere\ntrue\n```\n", "there is no mark"),
    ("```sh guest eth1 x=y\nscripts/there\n```\n", "there is no mark"),
    ("```sh host\nscripts/gone\n```\n", "there is no scripts/gone"),
    ("```sh guest eth1\ntrue\n```\n", None),
    ("```cpp\nint x;\n```\n", "this block is for nobody"),
    ("```sh test\nscripts/there --fast \\\n  --slow\n```\n", "does not know --slow"),
    ("```sh test\nexit 3\n```\n", "exits 3"),
    ("```sh test\nscripts/there && echo 'a # b' # c\n```\n", None),
    ("```sh test with=--fast\nscripts/there\nscripts/there # a comment\n```\n", None),
    ("```sh test with=-z\nscripts/there\ntrue\n```\n", "exits 1"),
    ("see [there](scripts/there) and [x](https://example.org)\n", None),
    ("see [gone](docs/gone.md#part)\n", "leads nowhere"),
    ("```console2\nscripts/gone\n```\n", None),
    ("```sh tried=tests/t\nmake -C x --all && nmctl bind eth1 # comment\n```\n", None),
    ("```sh tried=tests/gone\nmake -C x --all\n```\n", "there is no tests/gone"),
    ("```sh tried=tests/t\nmake --none\n```\n", "`make --none` is not in tests/t"),
    ("```sh tried=tests/t\nnmctl unbind eth1\n```\n", "is not in tests/t"),
    ("```sh tried=tests/t\ncmake --build x --target other\n```\n", "is not in tests/t"),
    ("```sh tried=tests/t\n-machine x -device y\n```\n", None),
    ("```cmake tried=tests/t\nfind_package(nm COMPONENTS sys) # or so\n```\n", None),
    ("```cmake tried=tests/t\ntarget_link_libraries(app nm::sys)\n```\n", "is not in tests/t"),
    ("```cmake\nfind_package(nm)\n```\n", "this block is for nobody"),
]
# With a pkt-gen that knows -i, --interface only, and is installed as nm-pkt-gen.
OPTIONS = [
    ("```sh guest\nsudo timeout 5 nm-pkt-gen -i x --interface y -itwo\n```\n", None),
    ("```sh guest\nA=b pkt-gen -n 5\n```\n", "does not know -n"),
    ("```sh guest\nip netns exec a pkt-gen --count 5\n```\n", "does not know --count"),
    ("```sh guest\necho pkt-gen -n\n```\n", None),
    ("as `nm-pkt-gen -i x`, `-n` or `other -n`\n", None),
    ("as `pkt-gen -i x -n 5`\n", "README.md:1: pkt-gen does not know -n"),
    ("what it is\n\n; sh guest\n```\n@NAME@ -i x\n```\n\n; sh guest\n```\n@NAME@ -n 5\n```\n", "does not know -n"),
    ("what it is\n\n; sh guest\n```\n@NAME@ -i x\n```\n\n```\n@NAME@ -i x\n```\n", "this block is for nobody"),
]
# In terminals: pkt-gen goes on until it is interrupted, and then ends as what it was given says.
TYPED = [
    ("```sh terminals eth1=192.0.2.1/24 file=x.pcap\npkt-gen -i 0 & # so\nnm-pkt-gen -i 130\nip -4 addr show eth1 | grep 192.0.2.1\ntest -s x.pcap\n```\n", None),
    ("```sh terminals\npkt-gen -i 0\npkt-gen -i 4\n```\n", "`pkt-gen -i 4` exits 4 when it is interrupted; it said:\n    said by pkt-gen"),
    ("```sh terminals\nfalse | cat\n```\n", "`false | cat` exits 1"),
    ("```sh terminals\npkt-gen -i 0 | (trap 'exit 3' INT; cat; exit 3)\npkt-gen -i 0 | cat\n```\n", None),
    ("```sh terminals\npkt-gen -i 3 | cat\n```\n", "`pkt-gen -i 3 | cat` exits 3 when"),
    ("```sh terminals\ntouch one\nfalse\ntouch /nowhere/two\n```\n", "`false` exits 1"),
    ("```sh terminals eth1\npkt-gen -i 0\ngrep -qz '^-i$' /proc/[0-9]*/cmdline\n" +
     "until [ $(cat /sys/class/net/eth1/statistics/rx_packets) -gt 0 ]; do sleep 0.1; done\n```\n", None),
    ("```sh each\npkt-gen -i 0\n! grep -qz '^-i$' /proc/[0-9]*/cmdline\n```\n", None),
    ("```sh each\npkt-gen -i 0\nexit 5\ntrue\nexit 6\n```\n", "`exit 6` exits 6"),
    ("```sh each needs=no-such-program\nexit 5\n```\n", None),
    ("what it is\n\n; sh each\n```\n@NAME@ -i 5\n```\n", "`pkt-gen -i 5` exits 5 when"),
]
PROGRAM = """#!/usr/bin/env bash
if [ "$1" = --help ]; then echo '  -i, --interface PORT'; exit; fi
trap 'exit $2' INT
echo said by pkt-gen
for i in $(seq 1000); do sleep 0.05; done
"""
COMPILED = [
    ("```cpp test\n#include <vector>\nint main() { std::vector<int> v; return static_cast<int>(v.size()); }\n```\n", None),
    ("```cpp test ctx\nctx.number = 3;\n```\n", None),
    ("```c\nnonsense\n```\n", None),
    ("a\n\n```cpp test ctx\nctx.number = 3;\nctx.nothing = 3;\n```\n", "README.md:5"),
    ("```cpp test\nint main() { return nowhere; }\n```\n", "README.md:2"),
    ("```cpp test teapot\n```\n", "has no teapot"),
]
LINES = ["$ a 'b # c' d # e", "f \\", "  g &", "", "# all of it", "h && i"]
MARKED = "```sh guest each eth1\na # b\n```\n\n```sh test\nb\n```\n```sh guest\nc &\nd\n```\n"
AS_MARKED = [(1, ["each", "eth1"], ["a"]), (8, [], ["c", "d"])]
AS_TYPED = ["a 'b # c' d", "f g", "h && i"]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def self_test(docs_class, namespaces):
    failed = count = 0
    terminals.TOGETHER = 0.2

    def hold(text, expected, found):
        nonlocal failed, count
        count += 1
        if bool(found) != (expected is not None) or (expected and expected not in "".join(found)):
            failed += 1
            print(f"self-test: {text!r}: expected {expected!r}, got {found}")

    for got, expected in ((list(typed(LINES)), AS_TYPED), (list(marked(MARKED, "guest")), AS_MARKED)):
        count += 1
        if got != expected:
            failed += 1
            print(f"self-test: {got}, expected {expected}")
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        write(root / "scripts" / "there", "#!/bin/sh\n# knows --fast\ntest $# -eq 0 || test \"$1\" != --fast || echo a line\n")
        write(root / "tests" / "t", "make --all -C y; nmctl bind eth1\ncmake --build x --target uninstall\n-machine x\n-device z\nfind_package(nm 1 COMPONENTS sys)\n")
        write(root / "bin" / "pkt-gen", PROGRAM)

        def found_in(text, bin_dir, run):
            page = root / ("pkt-gen.scd" if "@NAME@" in text else "README.md")
            page.write_text(text)
            docs = docs_class(root, bin_dir)
            return list(docs.check(page, run)) + docs.finish()

        for text, expected in STATIC:
            hold(text, expected, found_in(text, None, True))
        for text, expected in OPTIONS:
            hold(text, expected, found_in(text, root / "bin", False))
        for text, expected in TYPED if namespaces else []:
            hold(text, expected, found_in(text, root / "bin", True))
        if not namespaces:
            print("check-docs: terminals are not tried: network and mount namespaces cannot be made here (root can)")
        compiler = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
        write(root / "include" / "nm" / "nm.hpp", "#pragma once\nnamespace nm { struct context { int number; }; }\n")
        for text, expected in COMPILED if compiler else []:
            (root / "README.md").write_text(text)
            hold(text, expected, list(compile_snippets([root / "README.md"], root / "include", compiler)))
    print(f"check-docs: {count - failed} of {count} self-tests passed")
    return 1 if failed else 0
