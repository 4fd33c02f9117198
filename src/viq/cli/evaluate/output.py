"""What an evaluation says on stdout."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from viq.evaluation.document import Document, Table


def print_document(document: "Document", as_json: bool) -> None:
    """Prints the tables with their notes, in columns; or the whole document as JSON."""
    if as_json:
        from dataclasses import asdict

        print(json.dumps(asdict(document), indent=2, ensure_ascii=False))
        return
    print("\n\n".join([*map(table_text, document.tables), *document.notes]))


def table_text(table: "Table") -> str:
    """A table for a terminal: its title, aligned columns, and its note."""
    from viq.cli.progress import table as lay_out
    from viq.evaluation.document import cell_text

    head = [column.name + (f" ({column.unit})" if column.unit else "") for column in table.columns]
    rows = [
        [
            " ".join(cell_text(cell, column).split())
            for cell, column in zip(row, table.columns, strict=True)
        ]
        for row in table.rows
    ]
    return "\n".join([table.title, "", lay_out(head, rows), *([table.note] if table.note else [])])
