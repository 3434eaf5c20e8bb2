#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Checks, in the machine code, that a packet's road has no call on it.

check.py SOURCE COMPILER [FLAGS...]      compiles SOURCE with -O2 and with -O3 and disassembles it
check.py --self-test COMPILER...         proves that a call in a loop is found, and one out of line is not

Every function of SOURCE whose name has `codegen_` in it must hold a loop, and its innermost loops must hold no call and
no indirect jump. Of functions named `codegen_all_` this is asked of all loops, not of the innermost ones only: for a road
that has a loop per packet inside it (fragments, a copy).

Where the loop is in a function that the compiler does not inline (one call per batch is allowed), SOURCE says which ones
are to be checked in place of these: `// functions: REGEX`, found in the demangled name, on a line of its own; several such
lines each must find something. `// functions-all: REGEX` asks it of all their loops. `// cold: REGEX` names functions that a
loop may call: ones that are marked gnu::cold in the source and are called for the rare frame, wherever the compiler puts that
call.

A loop is found as a natural one: a jump back to an instruction that every way to the jump goes through, and all that lies
between. What the compiler has put out of line (behind the last jump back, or into the .cold section) is a cold path: of a
loop, only the run of instructions that hangs together with its head counts, up to the last jump back to the head.
"""
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

SYMBOL = re.compile(r"^[0-9a-f]+ <(.+)>:$")
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(?:(?:notrack|bnd|rep|repz|repnz|lock)\s+)*([a-z]\w*)\s*(.*)$")
TARGET = re.compile(r"^([0-9a-f]+) <([^>]*)>")


class Instruction:
    def __init__(self, address, mnemonic, operands, relocation=None):
        self.address, self.mnemonic, self.operands, self.relocation = address, mnemonic, operands, relocation

    @property
    def is_jump(self):
        return self.mnemonic.startswith("j") or self.mnemonic.startswith("loop")

    @property
    def is_call(self):
        return self.mnemonic.startswith("call")

    def target(self):
        match = TARGET.match(self.operands)
        return int(match.group(1), 16) if match and not self.relocation else None

    def __str__(self):
        return f"{self.address:x}: {self.mnemonic} {self.relocation or self.operands}".strip()


def disassemble(object_file):
    text = subprocess.run(["objdump", "-dr", "--no-show-raw-insn", "-w", "-C", str(object_file)], capture_output=True,
                          text=True, check=True).stdout
    functions, current = [], None
    for line in text.splitlines():
        if match := SYMBOL.match(line):
            current = []
            functions.append((match.group(1), current))
        elif current is not None and (match := LINE.match(line)):
            operands, relocation = match.group(3), None
            # -w puts a relocation behind its instruction: `call 10 <f+0x10>	c: R_X86_64_PLT32	memcpy-0x4`
            if found := re.search(r"\s+[0-9a-f]+: (R_\S+)\s+(\S.*)$", operands):
                operands = operands[:found.start()]
                relocation = found.group(2)
            current.append(Instruction(int(match.group(1), 16), match.group(2), operands, relocation))
    return functions


def without_padding(code):
    """The code without the fillers between its parts, which would break up what hangs together."""
    targets = {instruction.target() for instruction in code if instruction.is_jump}

    def is_padding(instruction):
        text = f"{instruction.mnemonic} {instruction.operands}"
        return bool(re.match(r"(cs |data16 )*(nop|xchg +%ax,%ax|int3)", text)) and instruction.address not in targets

    return [instruction for instruction in code if not is_padding(instruction)]


def successors(code):
    index = {instruction.address: i for i, instruction in enumerate(code)}
    edges = []
    for i, instruction in enumerate(code):
        out = []
        if instruction.is_jump:
            target = instruction.target()
            if target in index:
                out.append(index[target])
        falls = not (instruction.mnemonic.startswith(("jmp", "ret", "ud2", "hlt")))
        if falls and i + 1 < len(code):
            out.append(i + 1)
        edges.append(out)
    return edges


def dominators(edges):
    """The immediate dominator of each instruction that can be reached (Cooper, Harvey, Kennedy 2001)."""
    order, seen, stack = [], {0}, [(0, iter(edges[0]))]
    while stack:
        node, rest = stack[-1]
        for nxt in rest:
            if nxt not in seen:
                seen.add(nxt)
                stack.append((nxt, iter(edges[nxt])))
                break
        else:
            order.append(node)
            stack.pop()
    number = {node: i for i, node in enumerate(order)}
    before = {node: [] for node in order}
    for node in order:
        for nxt in edges[node]:
            before[nxt].append(node)
    idom = {0: 0}
    changed = True
    while changed:
        changed = False
        for node in reversed(order):
            if node == 0:
                continue
            new = None
            for pred in before[node]:
                if pred not in idom:
                    continue
                if new is None:
                    new = pred
                    continue
                a, b = pred, new
                while a != b:
                    while number[a] < number[b]:
                        a = idom[a]
                    while number[b] < number[a]:
                        b = idom[b]
                new = a
            if idom.get(node) != new:
                idom[node] = new
                changed = True
    return idom, before


def natural_loops(edges):
    """{head: the instructions of its loop}"""
    idom, before = dominators(edges)

    def dominates(a, b):
        while b != a and b != idom[b]:
            b = idom[b]
        return a == b

    loops = {}
    for node in idom:
        for head in edges[node]:
            if dominates(head, node):
                body = loops.setdefault(head, {head})
                work = [node]
                while work:
                    member = work.pop()
                    if member not in body:
                        body.add(member)
                        work.extend(before[member])
    return loops


def run_around(head, body):
    """All of the loop that hangs together with its head."""
    low = high = head
    while low - 1 in body:
        low -= 1
    while high + 1 in body:
        high += 1
    return low, high


def hot_part(head, body, edges):
    """Of the run around the head, what lies before the last jump back to the head or to what stands before it."""
    low, high = run_around(head, body)
    back = [i for i in range(head, high + 1) if any(low <= nxt <= head for nxt in edges[i] if nxt != i + 1)]
    return range(low, max(back, default=high) + 1)


def check_function(name, code, all_loops, cold=None):
    """(number of loops checked, the complaints)"""
    code = without_padding(code)
    edges = successors(code)
    loops = natural_loops(edges)
    if not loops:
        return 0, [f"{name}: no loop found, so there is nothing to check"]
    if all_loops:
        chosen = list(loops)
    else:
        # A loop whose inner loop lies out of line is still the innermost one on the hot path.
        runs = {head: run_around(head, body) for head, body in loops.items()}
        chosen = [h for h in loops if not any(other != h and runs[h][0] <= other <= runs[h][1] for other in loops)]
    complaints = []
    for head in chosen:
        for i in hot_part(head, loops[head], edges):
            instruction = code[i]
            if instruction.is_call and cold and re.search(cold, str(instruction)):
                continue
            if instruction.is_call:
                complaints.append(f"{name}: a call inside the loop at {code[head].address:x}: {instruction}")
            elif instruction.is_jump and instruction.operands.startswith("*"):
                complaints.append(f"{name}: an indirect jump inside the loop at {code[head].address:x}: {instruction}")
    return len(chosen), complaints


def check(source, command, level):
    with tempfile.TemporaryDirectory() as directory:
        object_file = pathlib.Path(directory) / "codegen.o"
        result = subprocess.run([*command, level, "-DNDEBUG", "-c", str(source), "-o", str(object_file)],
                                capture_output=True, text=True)
        if result.returncode != 0:
            return [], [f"{source} does not compile:\n{result.stderr}"]
        functions = disassemble(object_file)
    report, complaints = [], []
    cold = "|".join(re.findall(r"^// cold: (.+)$", source.read_text(), re.M))
    wanted = re.findall(r"^// functions(-all)?: (.+)$", source.read_text(), re.M)
    for everything, pattern in wanted or [("-all", r"^[^(]*codegen_all_"), ("", r"^[^(]*codegen_(?!all_)")]:
        matched = 0
        for name, code in functions:
            # GCC keeps the cold part of f as f.cold: that is where calls belong.
            if not re.search(pattern, name) or re.search(r"\.cold|\[clone [^]]*cold", name) or not code:
                continue
            matched += 1
            loops, found = check_function(name, code, bool(everything), cold)
            calls = sum(instruction.is_call for instruction in code)
            state = f"{len(code)} instructions, {loops} loops checked, {calls} calls elsewhere" if not found else "FAILED"
            report.append(f"{level} {name}: {state}")
            complaints += [f"{level} {line}" for line in found]
        if wanted and not matched:
            complaints.append(f"{source}: no function is found by {pattern}")
    if not report:
        complaints.append(f"{source}: no function named codegen_...")
    return report, complaints


def self_test(compilers):
    directory = pathlib.Path(__file__).resolve().parent / "selftest"
    failed = total = 0
    for compiler in compilers:
        for source in sorted(directory.glob("*.cpp")):
            for level in ("-O2", "-O3"):
                expected = re.search(r"^// CODEGEN: (ok|.+)$", source.read_text(), re.M).group(1)
                report, complaints = check(source, [compiler, "-std=c++20"], level)
                good = (not complaints) if expected == "ok" else any(expected in line for line in complaints)
                total += 1
                if not good:
                    failed += 1
                    print(f"self-test {source.name} {compiler} {level}: expected {expected!r}, got:", *report, *complaints, sep="\n  ")
    print(f"codegen: {total - failed} of {total} self-tests passed")
    return 1 if failed or not total else 0


def main():
    if platform.machine() != "x86_64":
        print("skipped: the check reads x86-64 code")
        return 77
    if sys.argv[1] == "--self-test":
        return self_test(sys.argv[2:])
    failed = False
    for level in ("-O2", "-O3"):
        report, complaints = check(pathlib.Path(sys.argv[1]), sys.argv[2:], level)
        print("\n".join(report + complaints))
        failed = failed or bool(complaints)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
