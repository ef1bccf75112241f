"""The manual cannot lie: the README's programs are the files of examples/, byte for byte.

`readme.py` compares; `readme.py --write` brings the README up to date."""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
readme = root / "README.md"
programs = {"cpp": "examples/generate.cpp", "python": "examples/generate.py", "c++": "examples/guide.cpp"}


def with_programs(text):
    for language, path in programs.items():
        body = (root / path).read_text()
        pattern = re.compile(rf"(```{re.escape(language)}\n).*?(```)", re.S)
        assert len(pattern.findall(text)) == 1, f"expected one {language} block in README.md"
        text = pattern.sub(lambda match: match[1] + body + match[2], text)
    return text


text = readme.read_text()
if "--write" in sys.argv:
    readme.write_text(with_programs(text))
elif with_programs(text) != text:
    sys.exit("README.md and examples/ differ: run tests/readme.py --write")
