# SPDX-License-Identifier: BSD-2-Clause
"""The C++ of the documents has to compile."""
import pathlib
import re
import subprocess
import tempfile

from documents.blocks import blocks

GIVEN = {
    "ctx": "nm::context& ctx", "a": "nm::netdev& a", "p": "nm::netdev& p", "b": "nm::netdev& b", "nic": "nm::netdev& nic", "host": "nm::netdev& host",
    "port": "nm::netdev& port", "pipe": "nm::pipe& pipe", "fd": "int fd", "rx": "decltype(std::declval<nm::netdev&>().rx(0)) rx", "tx": "decltype(std::declval<nm::netdev&>().tx(0)) tx",
    "work": "void (*work)(const std::uint8_t*, std::size_t)", "stop": "const volatile bool& stop",
}


def snippets(path, text):
    """(#include lines, the rest in a namespace of its own) of each C++ block that is to compile"""
    for start, marks, lines in blocks(text, ("cpp", "c++")):
        if "test" not in marks:
            continue
        name = f"at_{re.sub(r'[^A-Za-z0-9]', '_', path.name)}_{start}"
        includes = [line for line in lines if line.startswith("#include")]
        rest = ["" if line.startswith("#include") else line for line in lines]
        is_program = any(re.match(r"int main\(", line) for line in lines)
        given = [GIVEN[word] for word in marks[marks.index("test") + 1:] if word in GIVEN]
        unknown = [word for word in marks[marks.index("test") + 1:] if word not in GIVEN]
        opening = f"namespace {name} {{" if is_program else f"inline void {name}({', '.join('[[maybe_unused]] ' + g for g in given)}) {{"
        rest = [re.sub(r"^int main\(", "inline int program(", line) for line in rest]
        yield unknown, includes, [opening, f'#line {start + 1} "{path}"', *rest, "}"]


def compile_snippets(files, include, compiler):
    """What is wrong with the C++ blocks of these documents: one translation unit for all, since the headers cost more than they do."""
    includes, rest, count = ["#include <nm/nm.hpp>", "#include <cstdint>", "#include <utility>"], [], 0
    for path in files:
        for unknown, heads, lines in snippets(path, path.read_text()):
            for word in unknown:
                yield f"{path}: a block says `cpp test {word}`, and GIVEN of scripts/documents/snippets.py has no {word}"
            includes += [line for line in heads if line not in includes]
            rest += lines
            count += 1
    if not count:
        return
    with tempfile.TemporaryDirectory() as directory:
        source = pathlib.Path(directory) / "snippets.cpp"
        source.write_text("\n".join(includes + rest) + "\n")
        command = [compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wno-unused-variable", "-Wno-unused-parameter", "-Wno-return-type", "-Wno-unused-but-set-variable", "-Werror", "-I", str(include), "-I", str(include.parent / "examples"), str(source)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired) as why:
            yield f"the C++ blocks: {why}"
            return
        print(f"check-docs: {count} C++ blocks compiled, exit {result.returncode}")
        if result.returncode != 0:
            yield f"these C++ blocks do not compile:\n{result.stderr[-6000:]}"
