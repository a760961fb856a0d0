"""What languages of programs call their parts, by the node names of tree-sitter's tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import tree_sitter
import tree_sitter_c
import tree_sitter_go
import tree_sitter_java
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_rust
import tree_sitter_typescript

Node = tree_sitter.Node


@dataclass(frozen=True, slots=True)
class Language:
    """One language."""

    name: str
    grammar: tree_sitter.Language
    kinds: Mapping[str, str]
    """Type of a node → what it defines, such as `function`."""
    containers: Mapping[str, str] = field(default_factory=dict)
    """Type of a node that defines nothing and holds definitions → the field that names it."""


_SCRIPT = {
    "function_declaration": "function",
    "generator_function_declaration": "function",
    "class_declaration": "class",
    "method_definition": "method",
    "variable_declarator": "variable",
}
_TYPED = _SCRIPT | {
    "abstract_class_declaration": "class",
    "interface_declaration": "interface",
    "type_alias_declaration": "type",
    "enum_declaration": "enum",
    "method_signature": "method",
    "abstract_method_signature": "method",
    "function_signature": "function",
    "internal_module": "module",
}


def _language(
    name: str, table: Any, kinds: Mapping[str, str], **containers: str
) -> tuple[str, Language]:
    return name, Language(name, tree_sitter.Language(table), kinds, containers)


LANGUAGES: Mapping[str, Language] = dict(
    [
        _language(
            "c",
            tree_sitter_c.language(),
            {
                "function_definition": "function",
                "struct_specifier": "struct",
                "union_specifier": "union",
                "enum_specifier": "enum",
                "type_definition": "type",
                "preproc_def": "macro",
                "preproc_function_def": "macro",
            },
        ),
        _language(
            "go",
            tree_sitter_go.language(),
            {
                "function_declaration": "function",
                "method_declaration": "method",
                "type_spec": "type",
                "const_spec": "constant",
            },
        ),
        _language(
            "java",
            tree_sitter_java.language(),
            {
                "class_declaration": "class",
                "interface_declaration": "interface",
                "enum_declaration": "enum",
                "record_declaration": "class",
                "method_declaration": "method",
                "constructor_declaration": "method",
            },
        ),
        _language("javascript", tree_sitter_javascript.language(), _SCRIPT),
        _language(
            "python",
            tree_sitter_python.language(),
            {"function_definition": "function", "class_definition": "class"},
        ),
        _language(
            "rust",
            tree_sitter_rust.language(),
            {
                "function_item": "function",
                "function_signature_item": "function",
                "struct_item": "struct",
                "enum_item": "enum",
                "union_item": "union",
                "trait_item": "interface",
                "mod_item": "module",
                "type_item": "type",
                "const_item": "constant",
                "static_item": "constant",
                "macro_definition": "macro",
            },
            impl_item="type",
        ),
        _language("typescript", tree_sitter_typescript.language_typescript(), _TYPED),
        _language("tsx", tree_sitter_typescript.language_tsx(), _TYPED),
    ]
)
ENDINGS = {
    "c": "c", "h": "c", "go": "go", "java": "java", "js": "javascript", "mjs": "javascript",
    "cjs": "javascript", "jsx": "javascript", "py": "python", "pyi": "python", "rs": "rust",
    "ts": "typescript", "mts": "typescript", "cts": "typescript", "tsx": "tsx",
}  # fmt: skip
"""Ends of files' names → their language."""
KINDS = tuple(sorted({kind for language in LANGUAGES.values() for kind in language.kinds.values()}))
_OWNERS = frozenset({"class", "interface", "struct", "enum", "module", "type"})
_FUNCTIONS = frozenset({"arrow_function", "function_expression", "generator_function"})
_NEED_BODY = frozenset({"struct_specifier", "union_specifier", "enum_specifier"})


@dataclass(frozen=True, slots=True)
class Symbol:
    """A definition."""

    name: str
    kind: str
    container: str
    """Names of what it is in, with dots between them; may be empty."""
    node: Node
    at: Node
    """Where its name stands."""


def language_of(path: str) -> Language | None:
    """The language of a file, by its name."""
    name = ENDINGS.get(path.rpartition(".")[2].lower()) if "." in path else None
    return LANGUAGES[name] if name else None


def parse(source: bytes, language: Language) -> Node:
    """The tree of a program; what is wrong in it does not stop it."""
    return tree_sitter.Parser(language.grammar).parse(source).root_node


def symbols(root: Node, language: Language) -> Iterator[Symbol]:
    """All definitions in the order of the text. Without recursion: a program may nest for ever."""
    stack: list[tuple[Node, tuple[str, ...], bool]] = [(root, (), False)]
    while stack:
        node, owners, owned = stack.pop()
        symbol = _symbol(node, language, owners, owned=owned)
        inner, inner_owned = owners, owned
        if symbol is not None:
            yield symbol
            inner, inner_owned = (*owners, symbol.name), symbol.kind in _OWNERS
        elif node.type in language.containers:
            named = node.child_by_field_name(language.containers[node.type])
            inner, inner_owned = (*owners, _text(named)) if named else owners, True
        stack.extend((child, inner, inner_owned) for child in reversed(node.named_children))


def identifiers(root: Node, name: bytes) -> Iterator[Node]:
    """Every place where a name stands, in order."""
    stack = [root]
    while stack:
        node = stack.pop()
        if not node.named_children and node.type.endswith("identifier") and node.text == name:
            yield node
        stack.extend(reversed(node.named_children))


def _symbol(
    node: Node, language: Language, owners: tuple[str, ...], *, owned: bool
) -> Symbol | None:
    kind = language.kinds.get(node.type)
    if kind is None or (node.type in _NEED_BODY and node.child_by_field_name("body") is None):
        return None
    named = _name_of(node)
    if named is None:
        return None
    if kind == "variable":
        value = node.child_by_field_name("value")
        if value is None or value.type not in _FUNCTIONS:
            return None
        kind = "function"
    elif kind == "function" and owned:
        kind = "method"
    elif node.type == "method_declaration" and not owners:
        owners = _receiver(node)
    return Symbol(_text(named), kind, ".".join(owners), node, named)


def _name_of(node: Node) -> Node | None:
    named = node.child_by_field_name("name")
    if named is not None:
        return named
    # In C a declarator is wrapped in pointers, arrays and parameters.
    inner = node.child_by_field_name("declarator")
    while inner is not None and not inner.type.endswith("identifier"):
        inner = inner.child_by_field_name("declarator")
    return inner


def _receiver(node: Node) -> tuple[str, ...]:
    """The type that a method of Go belongs to."""
    receiver = node.child_by_field_name("receiver")
    stack = [receiver] if receiver else []
    while stack:
        inner = stack.pop()
        if inner.type == "type_identifier":
            return (_text(inner),)
        stack.extend(reversed(inner.named_children))
    return ()


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")
