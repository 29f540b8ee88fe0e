"""A picture in the notations of others: Graphviz, Mermaid, and plain JSON."""

from __future__ import annotations

from maxbuild.report.documents import document, task_content
from maxbuild.report.inks import ink_of
from maxbuild.report.picture import Box, Picture


def dot(picture: Picture) -> str:
    """Return the picture in Graphviz's language."""
    lines = [
        "digraph tasks {",
        f"  label={_quoted(f'{picture.title}: {picture.summary}')}; labelloc=t; rankdir=LR; fontname=Helvetica;",
        '  node [shape=box, style="rounded,filled", fontname=Helvetica, fontsize=11];',
        "  edge [color=gray50, arrowsize=0.7];",
    ]
    for box in picture.boxes.values():
        style = "" if box.certain else ', style="rounded,dashed"'
        colour = ink_of(box.kind).fill
        lines.append(f'  {_quoted(box.name)} [label={_quoted(_label(box))}, fillcolor="{colour}"{style}];')
    for a, b in picture.arrows:
        dashes = "" if picture.boxes[b].task else " [style=dashed]"
        lines.append(f"  {_quoted(a)} -> {_quoted(b)}{dashes};")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    # In Graphviz only the quote needs an escape, and a backslash begins one: \n is the line break we mean.
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _label(box: Box) -> str:
    return f"{box.title}\n{box.detail}"


def mermaid(picture: Picture) -> str:
    """Return the picture in Mermaid's language, as Markdown renderers draw it."""
    identifiers = {name: f"t{index}" for index, name in enumerate(picture.boxes)}
    lines = ["flowchart LR"]
    lines += [f'  {identifiers[box.name]}["{_entities(_label(box))}"]' for box in picture.boxes.values()]
    for a, b in picture.arrows:
        lines.append(f"  {identifiers[a]} {'-->' if picture.boxes[b].task else '-.->'} {identifiers[b]}")
    kinds = dict.fromkeys(box.kind for box in picture.boxes.values())
    for index, kind in enumerate(kinds):
        members = ",".join(identifiers[box.name] for box in picture.boxes.values() if box.kind == kind)
        lines.append(f"  classDef k{index} fill:{ink_of(kind).fill},stroke:#66707d")
        lines.append(f"  class {members} k{index}")
    if uncertain := ",".join(identifiers[box.name] for box in picture.boxes.values() if not box.certain):
        lines.append("  classDef uncertain stroke-dasharray:5 4")
        lines.append(f"  class {uncertain} uncertain")
    return "\n".join(lines) + "\n"


def _entities(text: str) -> str:
    """Return `text` for a quoted Mermaid label; `#34;` and the like are how it writes special characters."""
    special = {'"': "#34;", "#": "#35;", "<": "#60;", ">": "#62;", "&": "#38;", "`": "#96;", "\\": "#92;"}
    return "".join(special.get(character, character) for character in text).replace("\n", "<br/>")


def graph_document(picture: Picture) -> str:
    """Return the picture as a JSON document: nodes with keys, states and reasons, and edges."""
    nodes = [
        {"name": box.name, "kind": box.kind, "state": "deferred", "what": box.title}
        if box.task is None
        else task_content(box.task)
        for box in picture.boxes.values()
    ]
    edges = [{"from": a, "to": b} for a, b in picture.arrows]
    return document("graph", {"manifest": picture.title, "nodes": nodes, "edges": edges})
