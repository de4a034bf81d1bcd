"""What the repository cites is there: sections and codes of `docs`, documents, and tests.

A code, such as W4, is defined where it stands in bold in `docs/reliability.md`. It is cited in
prose, that is in comments, docstrings and documents, and in the names of tests (`test_w4_…`). What
stands in backquotes is data and cites nothing. Sections and documents are cited in any text.
"""

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from midas.cli.demo.rows import ROWS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FOLDERS = ("midas", "webhook_gateway", "tests", "protos", "docs", ".ci")
COMMENT_MARKS = {".proto": "//", ".cjs": "//", ".toml": "#", ".yaml": "#", ".cfg": "#", "": "#"}
"""What begins a comment in a file that is neither Python nor Markdown, by its suffix."""
NOT_CODES = {"H5"}
"""Names of others that look like a code. H5 is what WeChat calls its page in a phone's browser."""

NUMBER = r"\d{1,2}(?:\.\d{1,2})*(?!\d)"
NUMBERS = rf"{NUMBER}(?:(?:,\s+|,?\s+and\s+|\s+to\s+){NUMBER})*"
SECTION = re.compile(
    rf"(?:\b(?P<document>[a-z]+)\.md,?\s+(?:(?:sections?|rows?)\s+)?|\b[Ss]ections?\s+)"
    rf"(?P<numbers>{NUMBERS})(?:,\s+item\s+(?P<item>\d+))?"
)
CODE = re.compile(
    r"(?<![\w.\-/#+])(?P<letter>[A-Z])(?P<first>\d{1,2})"
    r"(?:(?:-|\s+to\s+)(?P=letter)(?P<last>\d{1,2}))?(?!\w|-\d)"
)
MAY_CITE = re.compile(r"\b[A-Z]\d{1,2}\b|\bdef test_\w*[a-z]\d{1,2}[_(]")
CODE_OF_A_TEST = re.compile(r"(?<=_)([a-z]\d{1,2})(?=_|$)")
NAMED = re.compile(r"\b([a-z]+)\.md\b")
DOCUMENT = re.compile(r"(?<![\w/.\-])(?:docs/)?\w+\.md\b")
TEST = re.compile(r"`(?P<file>tests/[\w/]+\.py)(?:::(?P<function>\w+))?`")
DEFINITION = re.compile(r"\*\*([A-Z]\d{1,2})\*\*")
NOT_BUILT = re.compile(r"\bNot built yet: \w")
QUOTED = re.compile(r"`[^`\n]*`")
FENCED = re.compile(r"^```.*?^```|^ {4}.*?$", re.MULTILINE | re.DOTALL)
NEXT_LINE = re.compile(r"\n[ \t]*(?:#|//)?[ \t]*")
HEADING = re.compile(r"^#{2,4} (\d+(?:\.\d+)*)\.?\s", re.MULTILINE)
ITEM = re.compile(r"^(\d+)\. ", re.MULTILINE)
ENTRY = re.compile(r"^- (.*(?:\n {2}.*)*)", re.MULTILINE)
ROW = re.compile(r"^\*\*(\d+)\*\* ")


@dataclass(frozen=True)
class Source:
    """A text file, and its prose: the line where each piece begins, and the piece."""

    name: str
    text: str
    prose: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Citation:
    """What is cited, and where. `document` is empty where the text names none."""

    place: str
    what: str
    document: str = ""
    item: str = ""


def test_every_section_that_is_cited_exists() -> None:
    """Also the rows of `scenarios.md`, and the items of a section that has a numbered list."""
    wrong = [sentence for each in repository() for sentence in wrong_sections(each)]
    assert not wrong, _listed(wrong)


def test_every_code_that_is_cited_exists() -> None:
    """In ranges each code from the first to the last."""
    wrong = [sentence for each in repository() for sentence in wrong_codes(each)]
    assert not wrong, _listed(wrong)


def test_every_document_that_is_named_exists() -> None:
    """At the top or in `docs`; what has a path before it lies elsewhere."""
    wrong = [sentence for each in repository() for sentence in wrong_documents(each)]
    assert not wrong, _listed(wrong)


def test_no_code_is_defined_twice() -> None:
    """In one section; steps of section 3 and faults of section 5 share two letters."""
    wrong = [
        f"docs/reliability.md defines {code} {times} times in section {number}. Give the newer "
        "one another number, or write it without the bold type."
        for number, text in _chapters("reliability").items()
        for code, times in Counter(DEFINITION.findall(text)).items()
        if times > 1
    ]
    assert not wrong, _listed(wrong)


def test_every_test_that_a_document_names_exists() -> None:
    """The file, and the function in it; a file that is named alone has tests."""
    wrong = [sentence for path in sorted(DOCS.glob("*.md")) for sentence in wrong_tests(read(path))]
    assert not wrong, _listed(wrong)


def test_every_fault_names_a_test() -> None:
    """Or the part of Midas that is not built yet."""
    chapter = _chapters("reliability")["5"]
    faults = [each for each in ENTRY.findall(chapter) if DEFINITION.match(each)]
    assert len(faults) == len(DEFINITION.findall(chapter)) > 0, (
        "docs/reliability.md: begin each fault of section 5 with '- ' and its code in bold type."
    )
    wrong = [
        f"docs/reliability.md: {entry[:60]!r} names no test. Write the test's file and function in "
        "backquotes, or 'Not built yet: ' and the part of Midas that it needs."
        for entry in faults
        if not _is_held(entry)
    ]
    assert not wrong, _listed(wrong)


def test_every_row_of_the_joint_table_names_a_test_and_its_demo() -> None:
    """Rows 1 to 16; which of them the demo plays is said by the demo itself."""
    entries = [each for each in ENTRY.findall(_document("scenarios")) if ROW.match(each)]
    rows = [int(number) for each in entries for number in ROW.findall(each)]
    assert rows == list(range(1, 17)), (
        "docs/scenarios.md: begin each row with '- ' and its number in bold type; it has sixteen."
    )
    played = {row.number for row in ROWS}
    wrong = []
    for number, entry in enumerate(entries, 1):
        demo = f"Demo: row {number}" if number in played else "Demo: not played"
        if not re.search(rf"{demo}\b", " ".join(entry.split())):
            wrong.append(f"docs/scenarios.md: row {number} must say '{demo}'.")
        if not _is_held(entry):
            wrong.append(
                f"docs/scenarios.md: row {number} names no test. Write the test's file and "
                "function in backquotes, or 'Not built yet: ' and what it waits for."
            )
    assert not wrong, _listed(wrong)


SAMPLES = {
    "module.py": '"""Pay (pingpp.md § 99; W88).\n\nSee reliability.md\n§ 9.9."""\n'
    'NOTE = "pingpp.md § 98, A77"\n# (I66,\n# R1 to R18)\nx = 1  # O2-O9, `D55`, ch_D54\n'
    "def test_m44_is_found_by_p3() -> None:\n    pass\n",
    "service.proto": "// See reliability.md\n// ~9.8 (W88).\npackage midas.V22;\n",
    "page.~md": "By scenarios.md § 17 and design.~md (W88), `W87`.\n\n    midas charge W86\n",
    "settings.toml": "# pingpp.md § 11, item 99: W88\nselect = ['W87']\n",
    "script": "#!/bin/sh\necho W87 # W88 of § 6\n",
}
FOUND = {
    "module.py": "pingpp.md ~99|reliability.md ~9.9|pingpp.md ~98|W88|M44|I66|R17|R18|O9",
    "service.proto": "reliability.md ~9.8|W88",
    "page.~md": "scenarios.md ~17|design.~md|W88",
    "settings.toml": "pingpp.md ~11, item 99|W88",
    "script": "section 6|W88",
}


def plain(sample: str) -> str:
    """The sample as it is meant: as it is written here, this file itself would cite all of it."""
    return sample.replace("§", "section").replace("~", "")


@pytest.mark.parametrize("name", SAMPLES)
def test_what_does_not_exist_is_found(name: str, tmp_path: Path) -> None:
    """In each kind of file, over the ends of lines, and nothing else is taken for a citation."""
    path = tmp_path / plain(name)
    path.write_text(plain(SAMPLES[name]))
    source = read(path)
    wrong = [*wrong_sections(source), *wrong_documents(source), *wrong_codes(source)]
    cited = [re.findall(r"^\S+ cites (.*?)(?:: |, which )", each) for each in wrong]
    assert [one for each in cited for one in each] == plain(FOUND[name]).split("|"), wrong


def test_a_citation_has_its_line(tmp_path: Path) -> None:
    """That of the citation, not that of the docstring."""
    path = tmp_path / "module.py"
    path.write_text('"""One.\n\nThree (W88),\nand four (W89).\n"""\n\n# seven\n# eight: W90\n')
    places = [each.split(" ")[0].rpartition(":")[2] for each in wrong_codes(read(path))]
    assert places == ["3", "4", "8"]


# What is wrong ------------------------------------------------------------------------------------


def wrong_sections(source: Source) -> Iterator[str]:
    """A sentence for each section, item and row that is cited and not there."""
    for cited in sections(source):
        if not cited.document:
            yield (
                f"{cited.place} cites section {cited.what}, which may be of any document. Write "
                "the document's name before it."
            )
        elif cited.what not in _numbers(cited.document):
            yield (
                f"{cited.place} cites {cited.document}.md {cited.what}: docs/{cited.document}.md "
                "has no such section or row. Cite one that it has, or write it there."
            )
        elif cited.item and cited.item not in _items(cited.document, cited.what):
            yield (
                f"{cited.place} cites {cited.document}.md {cited.what}, item {cited.item}: that "
                "section has no such item. Cite one that it has."
            )


def wrong_codes(source: Source) -> Iterator[str]:
    """A sentence for each code that is cited and not defined."""
    for cited in codes(source):
        if cited.what not in _defined():
            yield (
                f"{cited.place} cites {cited.what}: docs/reliability.md does not define it. Cite a "
                "code that is in bold there, or say in words what is meant. What is no citation "
                "stands in backquotes."
            )


def wrong_documents(source: Source) -> Iterator[str]:
    """A sentence for each document that is named and not there."""
    for match in DOCUMENT.finditer(source.text) if ".md" in source.text else ():
        name = match[0].removeprefix("docs/")
        if not ((ROOT / name).exists() or (DOCS / name).exists()):
            yield (
                f"{_place(source, match.start())} cites {name}: there is no such document here. "
                "Name one of docs/, or say in words what it says."
            )


def wrong_tests(source: Source) -> Iterator[str]:
    """A sentence for each test that is named and not there."""
    for match in TEST.finditer(source.text):
        place, path = _place(source, match.start()), ROOT / match["file"]
        if not path.exists():
            yield f"{place} names {match['file']}, which does not exist. Name the file as it is."
        elif match["function"] and match["function"] not in _functions(path):
            yield (
                f"{place} names {match['function']}, which {match['file']} does not have. Name the "
                "test as it is called now, or the one that holds this instead."
            )
        elif path.name.startswith("test_") and not any(map(_is_test, _functions(path))):
            yield f"{place} names {match['file']}, which has no tests. Name one that has."


# What is cited ------------------------------------------------------------------------------------


def sections(source: Source) -> Iterator[Citation]:
    """All that is cited by a number, in prose and strings."""
    if ".md" not in source.text and "ection" not in source.text:
        return
    text, known = _on_one_line(source.text), {path.stem for path in DOCS.glob("*.md")}
    named = [each for each in NAMED.finditer(text) if each[1] in known]
    own = Path(source.name).stem if source.name.startswith("docs/") else ""
    for match in SECTION.finditer(text):
        above = [each[1] for each in named if each.end() <= match.end()]
        document = match["document"] or (above[-1] if above else own)
        if document in known or not document:  # wrong_documents tells of any other
            place = _place(source, match.start("numbers"))
            for number in re.findall(NUMBER, match["numbers"]):
                yield Citation(place, number, document, match["item"] or "")


def codes(source: Source) -> Iterator[Citation]:
    """All codes in prose and in names of tests."""
    for first_line, piece in source.prose:
        text = _on_one_line(QUOTED.sub(_blank, piece))
        for match in CODE.finditer(text):
            line = first_line + piece.count("\n", 0, match.start())
            last = int(match["last"] or match["first"])
            for number in range(int(match["first"]), last + 1):
                if f"{match['letter']}{number}" not in NOT_CODES:
                    yield Citation(f"{source.name}:{line}", f"{match['letter']}{number}")


# What is there ------------------------------------------------------------------------------------


def _document(name: str) -> str:
    return read(DOCS / f"{name}.md").text


@cache
def _chapters(name: str) -> dict[str, str]:
    """The text of each numbered heading of the second level, with all that is below it."""
    text = _document(name)
    starts = [match for match in HEADING.finditer(text) if text.startswith("## ", match.start())]
    ends = [*(match.start() for match in starts[1:]), len(text)]
    return {match[1]: text[match.start() : end] for match, end in zip(starts, ends, strict=True)}


@cache
def _numbers(name: str) -> frozenset[str]:
    if name == "scenarios":
        entries = ENTRY.findall(_document(name))
        return frozenset(number for each in entries for number in ROW.findall(each))
    return frozenset(HEADING.findall(_document(name)))


@cache
def _items(name: str, number: str) -> frozenset[str]:
    """The numbers of the list in a section."""
    text = _document(name)
    places = [*((match[1], match.start()) for match in HEADING.finditer(text)), ("", len(text))]
    (piece,) = [text[start:end] for (each, start), (_, end) in pairwise(places) if each == number]
    return frozenset(ITEM.findall(piece))


@cache
def _defined() -> frozenset[str]:
    return frozenset(DEFINITION.findall(_document("reliability")))


@cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    scopes: list[ast.Module | ast.ClassDef] = [tree]
    scopes += (each for each in tree.body if isinstance(each, ast.ClassDef))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(
        each.name for scope in scopes for each in scope.body if isinstance(each, kinds)
    )


def _is_test(function: str) -> bool:
    return function.startswith("test_")


def _is_held(entry: str) -> bool:
    named = [Path(match["file"]).name for match in TEST.finditer(entry)]
    return any(map(_is_test, named)) or NOT_BUILT.search(" ".join(entry.split())) is not None


# Reading ------------------------------------------------------------------------------------------


@cache
def repository() -> tuple[Source, ...]:
    """All that can cite something. Generated code repeats what the protos say."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), ROOT / "Dockerfile", ROOT / "buf.yaml"]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*")
    kinds = {".py", ".md", *COMMENT_MARKS}
    texts = [
        path
        for path in sorted(found)
        if path.suffix in kinds and "_pb2" not in path.name and path.is_file()
    ]
    return tuple(map(read, texts))


@cache
def read(path: Path) -> Source:
    """The file, with its name as the repository has it."""
    text = path.read_text()
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
    return Source(name, text, tuple(_prose(path, text)))


def _prose(path: Path, text: str) -> Iterator[tuple[int, str]]:
    if path.suffix == ".md":
        yield 1, FENCED.sub(_blank, text)
    elif path.suffix == ".py" or re.match(r"#!.*python", text):
        yield from _python_prose(text)
    else:
        mark = COMMENT_MARKS[path.suffix]
        yield 1, re.sub(rf"^(?:(?!{mark}).)*", _blank, text, flags=re.MULTILINE)


def _python_prose(text: str) -> Iterator[tuple[int, str]]:
    """Docstrings, comments, and the codes in the names of tests."""
    if MAY_CITE.search(text) is None:
        return  # to parse all of them takes seconds
    lines = text.splitlines()
    for statement in _statements(ast.parse(text)):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            if _is_test(statement.name):
                yield statement.lineno, " ".join(CODE_OF_A_TEST.findall(statement.name)).upper()
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            yield statement.lineno, "\n".join(lines[statement.lineno - 1 : statement.end_lineno])
    if re.search(r"#.*\b[A-Z]\d{1,2}\b", text):
        yield from _comments(text)


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """All below this one; expressions are not looked into."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for each in getattr(node, field, ()):
            if isinstance(each, ast.stmt):
                yield each
            yield from _statements(each)


def _comments(text: str) -> Iterator[tuple[int, str]]:
    """Comments of lines that follow each other are one piece."""
    first, lines = 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if lines and token.start[0] != first + len(lines):
            yield first, "\n".join(lines)
            lines = []
        first = first if lines else token.start[0]
        lines.append(token.string)
    if lines:
        yield first, "\n".join(lines)


def _on_one_line(text: str) -> str:
    """The same with a space for each character between two lines: every place stays as it is."""
    return NEXT_LINE.sub(_blank_all, text)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _blank_all(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _place(source: Source, offset: int) -> str:
    return f"{source.name}:{source.text.count(chr(10), 0, offset) + 1}"


def _listed(wrong: list[str]) -> str:
    return "\n" + "\n".join(wrong)
