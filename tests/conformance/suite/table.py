"""The table of results in Markdown: no times, so that equal results are equal texts."""

from suite.servers import pinned

OURS, ORACLE = "Streamward", "Apache Kafka"
HEAD = """# What Kafka clients find

Real client libraries are driven through the same cases against Streamward's embedded broker and registry and, as the
oracle, against Apache Kafka {kafka} and, for the registry, Apicurio {registry}.
`tests/conformance/run.py --oracle --table docs/broker-conformance.md` writes this page, and continuous integration
checks it; [the suite's README](../tests/conformance/README.md) says how to run it.

✓ the case holds · ✗ it does not · – the client cannot express it, for the reason in the note · ≠ the oracle's registry
deviates from Confluent's documentation, as listed at the end.
"""


def render(catalogue, driven, results):
    parts = [HEAD.format(kafka=pinned("kafka"), registry=pinned("registry")), versions(driven)]
    notes = catalogue.used_notes(driven)
    for title, areas in catalogue.tables:
        columns = [client for client in driven if set(client.areas) & set(areas)]
        if columns:
            parts.append(f"## {title}\n\n{one(catalogue, areas, columns, results, notes)}")
    listed = [f"{number}. {catalogue.notes[key]}" for number, key in enumerate(notes, 1)]
    if listed:
        parts.append("## Notes\n\n" + "\n".join(listed) + "\n")
    if catalogue.deviations:
        parts.append("## Where Apicurio deviates\n\n" + deviations(catalogue))
    return "\n".join(parts)


def versions(driven):
    lines = ["| client | versions |", "|---|---|"]
    for client in driven:
        made_of = ", ".join(f"{name} {version}" for name, version in client.versions().items())
        lines.append(f"| {client.name} | {made_of} |")
    return "\n".join(lines) + "\n"


def one(catalogue, areas, columns, results, notes):
    """An HTML table: Markdown's own has no groups of columns."""
    names = [client.name for client in columns]
    group = f'<th colspan="{len(names)}">'
    heads = "".join(f"<th>{name}</th>" for name in names)
    lines = ["<table>"]
    lines.append(f'<tr><th rowspan="2">case</th>{group}{OURS}</th>{group}{ORACLE}</th><th rowspan="2">what must hold</th></tr>')
    lines.append(f"<tr>{heads * 2}</tr>")
    for case in catalogue.cases:
        if case.area in areas:
            cells = [
                mark(catalogue, (server, client.name), case.name, results, notes)
                for server in (OURS, ORACLE)
                for client in columns
            ]
            marks = "".join(f"<td>{cell}</td>" for cell in cells)
            lines.append(f"<tr><td>{case.name}</td>{marks}<td>{case.holds}</td></tr>")
    lines.append("</table>")
    return "\n".join(lines) + "\n"


def mark(catalogue, column, case, results, notes):
    server, client = column
    note = catalogue.note(client, case)
    if note is not None:
        return f"–<sup>{notes.index(note) + 1}</sup>"
    found = results.get(column, {})
    if case not in found:
        return ""
    if server == ORACLE and case in catalogue.deviations:
        return "≠" if found[case][0] else "✗"
    return "✓" if found[case][0] else "✗"


def deviations(catalogue):
    return "\n".join(f"- `{case}`: {text}" for case, text in catalogue.deviations.items()) + "\n"
