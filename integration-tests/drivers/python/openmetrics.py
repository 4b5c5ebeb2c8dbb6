"""Reads OpenMetrics (the argument `openmetrics`) or Prometheus' text format (`text`) from standard input, strictly.

Prints the number of families and "ok".
"""

import sys

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client import parser as text

read = {"openmetrics": openmetrics, "text": text}[sys.argv[1]].text_string_to_metric_families
families = list(read(sys.stdin.read()))
names = [family.name for family in families]
assert len(names) == len(set(names)), "a family is there twice"
for family in families:
    assert family.documentation, f"{family.name} has no help"
    assert family.type != "unknown", f"{family.name} has no type"
print(len(families))
print("ok")
