#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""check.py SOURCE COMPILER [FLAGS...]: SOURCE must not compile, and must say why in the words of its first line:

    // EXPECT: part of the sentence that the user is to read

Several EXPECT lines at the head must all be found. With -DNM_FAIL_CONTROL the same file must compile, where it uses that
macro at all: so that it fails for the reason it means, and not for a misspelt header.
"""
import pathlib
import subprocess
import sys


def compile_it(source, command, *more):
    return subprocess.run([*command, *more, "-fsyntax-only", str(source)], capture_output=True, text=True)


def main():
    source, command = pathlib.Path(sys.argv[1]), sys.argv[2:]
    text = source.read_text()
    expected = []
    for line in text.splitlines():
        if not line.startswith("//"):
            break
        if line.startswith("// EXPECT:"):
            expected.append(line.removeprefix("// EXPECT:").strip())
    if not text.startswith("// EXPECT:") or not all(expected):
        print(f"{source}: line 1 must be `// EXPECT: what the compiler is to say`")
        return 1

    result = compile_it(source, command)
    said = result.stdout + result.stderr
    if result.returncode == 0:
        print(f"{source}: compiles, and must not")
        return 1
    # The source quoted in a diagnostic contains the sentence of a static_assert too: only the messages count.
    messages = "\n".join(line for line in said.splitlines() if "error:" in line or "note:" in line)
    missing = [sentence for sentence in expected if sentence not in messages]
    if missing:
        print(f"{source}: the compiler did not say: " + " | ".join(missing) + "\nit said:\n" + said)
        return 1
    if "NM_FAIL_CONTROL" in text:
        control = compile_it(source, command, "-DNM_FAIL_CONTROL")
        if control.returncode != 0:
            print(f"{source}: with -DNM_FAIL_CONTROL it must compile:\n" + control.stderr)
            return 1
    print("\n".join(f"refused with: {sentence}" for sentence in expected))
    return 0


if __name__ == "__main__":
    sys.exit(main())
