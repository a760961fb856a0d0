"""What the Lua files beside the worker may not do, read from their text."""

import re
from pathlib import Path

import pytest

from services.runtime.worker import vm

LUA = Path(vm.__file__).parent / "lua"
STANDARD = frozenset(
    """
    assert collectgarbage dofile error getmetatable ipairs load loadfile next pairs pcall print
    rawequal rawget rawlen rawset require select setmetatable tonumber tostring type warn xpcall
    coroutine debug io math os package string table utf8
    """.split()  # noqa: SIM905 - read as a list of words
)
NOT_CODE = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|\[\[.*?\]\]|--[^\n]*", re.DOTALL)
STRING_METHOD = re.compile(
    r"[\w\)\]\"']:(byte|find|format|gmatch|gsub|len|lower|match|rep|reverse|sub|upper)\("
)


def code(part):
    """A part's text without strings and comments, with as many lines."""
    text = (LUA / f"{part}.lua").read_text("utf-8")
    return NOT_CODE.sub(lambda found: '""' + "\n" * found.group().count("\n"), text)


def captured(text):
    """Names that stand in a `local` at the outermost level."""
    heads = re.findall(r"^local\s+(?:function\s+)?([\w, \n]+?)(?:=|\(|$)", text, re.MULTILINE)
    return {name for head in heads for name in re.findall(r"\w+", head)}


def late(text):
    """Uses of Lua's own globals within a function, where `strip` has emptied them already."""
    known = captured(text)
    for found in re.finditer(r"(?<![\w.:])([A-Za-z_]\w*)\b(?!\s*=[^=])", text):
        if found.group(1) not in STANDARD or found.group(1) in known:
            continue
        line = text.rfind("\n", 0, found.start()) + 1
        while line and text[line] in " \t":  # the statement began further up
            line = text.rfind("\n", 0, line - 1) + 1
        if not text.startswith("local ", line) or text.startswith("local function ", line):
            yield found.group(1), text.count("\n", 0, found.start()) + 1


@pytest.mark.parametrize("part", [part for part in vm.PARTS if part != "prelude"])
def test_a_part_captures_what_it_uses(part):
    """A script may change every global, and the real ones are gone when a script runs."""
    assert list(late(code(part))) == []


@pytest.mark.parametrize("part", [part for part in vm.PARTS if part != "prelude"])
def test_no_part_calls_methods_of_strings(part):
    """`text:find(…)` finds what the script has put into its table `string`."""
    assert STRING_METHOD.findall(code(part)) == []


@pytest.mark.parametrize("part", vm.PARTS)
def test_null_is_compared_raw(part):
    """`value == null` asks a script's table for its opinion, in the middle of the encoder."""
    assert re.findall(r"[=~]= null\b", code(part)) == []


def test_the_check_sees_what_it_looks_for():
    """A late use and a method of a string are found."""
    text = "local type = type\nlocal function f(x)\n  return type(x) or tostring(x)\nend\n"
    assert list(late(text)) == [("tostring", 3)]
    assert STRING_METHOD.findall('return (a):find("x")') == ["find"]
