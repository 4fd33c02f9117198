"""The card of a data set of codes: by it the hub and ``datasets`` find the files, people the way.

docs/FORMAT.md describes the format.
"""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from viq.card.page import table
from viq.store import COLUMNS, CodeDataset, CodesInfo

_OURS = {
    "codes": "of all images of the row end to end: patch by patch, a patch's codes side by side",
    "grid_sizes": "[height, width] of each image, in patches",
    "original_sizes": "[height, width] of each image, in pixels, as decoding gives it back",
    "encoded_sizes": "[height, width] of each image, in pixels, as it was encoded",
}


def dataset_card(
    info: CodesInfo,
    schema: pa.Schema,
    facts: Mapping[str, str],
    *,
    model: str,
    files: str = "data/train-*.parquet",
    license: str | None = None,
) -> str:
    """The page; equal for equal arguments.

    Args:
        info: what all codes have in common.
        schema: of the columns that are carried beside ours.
        facts: of the rows: how many there are, and the like.
        model: the tokenizer: what ``viq.load`` takes.
        files: the data files, as ``datasets`` finds them.
        license: of the pictures and texts, as the hub names it; who publishes them must say it.
    """
    said = f"license: {license}" if license else "# license: of the pictures and texts, not of viq"
    heads = info.code_heads
    rows = [[name, text] for name, text in facts.items()]
    rows += [
        ["tokenizer", f"`{model}`"],
        ["its fingerprint", f"`{info.fingerprint}`"],
        ["levels", ", ".join(map(str, info.levels))],
        ["codes a patch", str(heads)],
        ["patch size", str(info.patch_size)],
    ]
    columns = [[field.name, str(field.type), "as in the source"] for field in schema]
    types = ("list<uint16>", *["list<list<int32>>"] * 3)
    columns += [[name, kind, _OURS[name]] for name, kind in zip(COLUMNS, types, strict=True)]
    return f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: {files}
{said}
tags:
- image-codes
- viq
---

# Images as codes

Each row has the columns of its source, without the pictures, and the codes of its images: small
integers, {heads} for each patch of {info.patch_size} x {info.patch_size} pixels, of a codebook of
{info.codebook_size:,}. A language model trains on them without a vision encoder.

{table(["", ""], rows)}

{table(["column", "type", "what it holds"], columns)}

The files are Parquet; their format is `viq-codes`, version 1 (docs/FORMAT.md of viq). To read them
takes no package of ours.

## Read it

With `datasets`:

```python
from datasets import load_dataset

row = load_dataset("path/of/this/folder", split="train")[0]  # or the hub id
codes, grid_sizes = row["codes"], row["grid_sizes"]
```

With DuckDB:

```python
import duckdb

files = "path/of/this/folder/{files}"
print(duckdb.sql(f"SELECT count(*), sum(len(codes)) FROM '{{files}}'"))
```

In a loop of PyTorch, each image's codes checked:

```python
import torch
from viq.store import CodeDataset

for images in CodeDataset("path/of/this/folder").images():  # of each row
    for one in images:
        codes = torch.from_numpy(one.values.astype("int64"))  # (patches, {heads})
        h, w = one.grid_size
```

By their tokenizer codes become features, and pictures again:

```python
import viq

tokenizer = viq.load("{model}")
features = tokenizer.embed(one)  # (patches, width)
picture = tokenizer.decode(one)  # a PIL image, where the tokenizer has a decoder
```
"""


def card_of_folder(folder: Path, *, model: str, license: str | None = None) -> str:
    """The card of a data set that is in a folder, by the metadata of its files alone.

    Args:
        folder: of the data set.
        model: the tokenizer: what ``viq.load`` takes.
        license: of the pictures and texts, as the hub names it.

    Raises:
        CodesError: there is no data set, or a file is damaged.
    """
    dataset = CodeDataset(folder)
    inside = Path(dataset.files[0]).parent.relative_to(folder)  # all lie there
    facts = {
        "rows": f"{len(dataset):,}",
        "files": f"{len(dataset.files):,}, {dataset.num_bytes:,} bytes",
    }
    return dataset_card(
        dataset.info,
        dataset.schema,
        facts,
        model=model,
        files=(inside / "*.parquet").as_posix(),
        license=license,
    )
