"""Writes, beside each *.xml of this folder, what xmltodict makes of it.

    pip install xmltodict==1.0.4 && python generate.py

The files in this folder are of xmltodict 1.0.4. A comment <!-- force_list: a b --> in the first line names the
elements that are lists in any case.
"""

import json
import pathlib
import re

import xmltodict

for file in sorted(pathlib.Path(__file__).parent.glob("*.xml")):
    text = file.read_bytes().decode("utf-8")
    forced = re.match(r"<!-- force_list: ([^>]*) -->", text)
    names = tuple(forced.group(1).split()) if forced else None
    value = xmltodict.parse(text, force_list=names)
    file.with_suffix(".json").write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
