# SPDX-License-Identifier: BSD-2-Clause
"""The blocks of a document, and the commands in them."""
import re
import shlex

FENCE = re.compile(r"^(\s*)```(\S*)[ \t]*(.*)$")
SHELLS = ("sh", "bash", "shell", "console")


def text_of(path):
    """A document as Markdown. In a manual page (scdoc) a comment above a block is what it is marked with: `; sh each eth1`."""
    text = path.read_text()
    if path.suffix != ".scd":
        return text
    lines, mark, inside = [], "sh", False
    for line in text.replace("@NAME@", path.stem).splitlines():
        if line == "```":
            inside = not inside
            if inside:
                line, mark = "```" + mark, "sh"
        elif not inside and line.startswith("; sh"):
            mark = line[2:]
        elif not inside and line:
            mark = "sh"
        lines.append(line)
    return "\n".join(lines) + "\n"


def blocks(text, languages=SHELLS):
    """(first line, marks, the lines) of each block in one of these languages: sh, if none are named"""
    start = None
    for number, line in enumerate(text.splitlines(), 1):
        match = FENCE.match(line)
        if start is None and match:
            start, language, marks, inside = number, match.group(2), match.group(3).split(), []
        elif start is not None and line.strip() == "```":
            if language in languages:
                yield start, marks, inside
            start = None
        elif start is not None:
            inside.append(line)


def marked(text, wanted):
    """(first line, words behind the mark, the lines as they are typed) of each block with that mark"""
    for start, marks, lines in blocks(text):
        if marks[:1] == [wanted]:
            yield start, marks[1:], list(typed(lines))


def commands(lines):
    """(offset, words) of each simple command, as far as a shell's words can be told without running it"""
    joined, offset = "", 0
    for i, line in enumerate(lines):
        line = re.sub(r"^\s*[$#] (?=\S)", "", line) if re.match(r"^\s*\$ ", line) else line
        if not joined:
            offset = i
        if line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        joined += line
        lexer = shlex.shlex(joined, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        try:
            words = list(lexer)
        except ValueError:
            words = []
        command = []
        for word in words + [";"]:
            if re.fullmatch(r"[();|&]+", word):
                if command:
                    yield offset, command
                command = []
            else:
                command.append(word)
        joined = ""


def spans(text):
    """(line, text) of what stands in backquotes outside of blocks"""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            yield from ((number, span) for span in re.findall(r"`([^`]+)`", line))


def typed(lines):
    """The command lines as they are typed: no prompt, no comment, no & at the end, and one that goes on in the next line whole."""
    whole = ""
    for line in lines:
        line = re.sub(r"^\s*\$ ", "", line)
        for comment in re.finditer(r"(?:^|\s)#", line):
            if all(line[: comment.start()].count(quote) % 2 == 0 for quote in "'\""):
                line = line[: comment.start()]
                break
        whole += line.strip()
        if whole.endswith("\\"):
            whole = whole[:-1]
            continue
        whole = re.sub(r"\s*(?<!&)&$", "", whole)
        if whole:
            yield whole
        whole = ""
