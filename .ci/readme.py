"""Runs the Python blocks of README.md, one after another, as one program."""

import pathlib
import re

text = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
assert blocks, "README.md has no Python block"
exec(compile("\n".join(blocks), "README.md", "exec"), {"__name__": "__main__"})
