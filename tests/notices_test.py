"""The third-party notices are whole. notices_test.py FILE"""
import pathlib
import sys

sys.dont_write_bytecode = True
root = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "cmake"))
import notices  # noqa: E402

for expression, wanted in {"MIT": True, "MIT/Apache-2.0": True, "(MIT OR Apache-2.0) AND Unicode-3.0": True,
                           "GPL-3.0": False, "MIT AND GPL-3.0": False, "GPL-2.0 OR MIT": True, "none": False,
                           "(GPL-2.0 OR LGPL-3.0) AND MIT": False, "MPL-2.0": False}.items():
    assert notices.is_permissive(expression) == wanted, expression

text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
locked = (root / "lib/text/door/Cargo.lock").read_text(encoding="utf-8")
for name in ("minijinja", "tokenizers", "onig_sys", "serde_json"):
    assert f'name = "{name}"' in locked and f"\n{name} " in text, name
for name in ("fmt", "nlohmann-json", "CLI11", "pybind11"):
    assert f"{name} (headers)\n" in text, name
assert text.count("Permission is hereby granted") > 10, "the licences' own texts"
