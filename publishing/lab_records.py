"""Results on real data sets in the labs: recorded by hand, shown as a table with their provenance.

A lab that defines RESULTS, a dictionary from names to one value for each seed, is recorded by
`DATA_DIR=<folder> python -m publishing.lab_records <lab> "<data set>"` in `records/<lab>.json`.
A line `<!-- record: fashion_mnist.lab -->` and lines `<!-- key: label -->` below it become a table.
"""

import json
import os
import re
import statistics
import sys
from pathlib import Path

from publishing import ROOT, PublishingError, labs
from publishing.labs import Lab, LabError

RECORD = re.compile(r"<!-- record: (\w+)\.(\w+) -->((?:\n<!-- \w+: .+? -->)+)")
ROW = re.compile(r"<!-- (\w+): (.+?) -->")
GROUP = "lab"
"""The group of a record's results that holds what a lab measured."""


def record_file(name: str, root: Path) -> Path:
    return root / "records" / f"{name}.json"


def _table(match: re.Match, root: Path) -> str:
    name, group = match[1], match[2]
    file = record_file(name, root)
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        values = record["results"][group]
    except (OSError, ValueError, KeyError) as error:
        raise PublishingError(f"records/{name}.json has no results '{group}': {error!r}") from error
    lines = ["| 测得的量 | 均值 ± 标准差 |", "|---|---|"]
    for key, label in ROW.findall(match[3]):
        if key not in values:
            raise PublishingError(f"records/{name}.json: no '{key}'; there are {', '.join(values)}")
        mean, deviation = statistics.mean(values[key]), statistics.stdev(values[key])
        digits = 1 if abs(mean) >= 10 else 4
        lines.append(f"| {label} | {mean:.{digits}f} ± {deviation:.{digits}f} |")
    versions = record["versions"]
    source = (
        f"{record['data']}；{record['date']}，torch {versions['torch']}，"
        f"Python {versions['python']}，{record['machine']}，"
        f"{len(record['seeds'])} 个种子，共 {record['cpu_seconds']:.0f} 秒 CPU。"
    )
    return "\n".join([*lines, "", source])


def fill_in(markdown: str, root: Path) -> str:
    """Replace every `<!-- record: … -->` of a Markdown text by its table.

    Raises:
        PublishingError: the record, its group or a key is missing.
    """
    return RECORD.sub(lambda match: _table(match, root), markdown)


def record(lab: Lab, data: str, data_dir: str) -> dict:
    """Run a lab on the real data set and return what its record holds.

    Raises:
        LabError: a cell failed, or the lab defines no RESULTS.
    """
    notebook = labs.execute(lab, data_dir, last="import json\n\nprint(json.dumps(RESULTS))")
    results = json.loads(notebook["cells"][-1]["outputs"][0]["text"])
    results = {name: [round(value, 5) for value in runs] for name, runs in results.items()}
    book = notebook["metadata"]["book"]
    return {
        "data": data,
        "command": f'python -m publishing.lab_records {lab.name} "{data}"',
        "date": book["date"],
        "versions": {name: book["versions"][name] for name in ("python", "torch")},
        "machine": book["machine"],
        "cpu_seconds": book["seconds"],
        "seeds": list(range(len(next(iter(results.values()))))),
        "results": {GROUP: results},
    }


def main() -> int:
    name, data = sys.argv[1:]
    data_dir = os.environ.get("DATA_DIR")
    if not data_dir:
        print("DATA_DIR must name the folder of the real data sets", file=sys.stderr)
        return 1
    try:
        text = json.dumps(record(Lab(name), data, data_dir), ensure_ascii=False)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    record_file(name, ROOT).write_text(text.replace('], "', '],\n"') + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
