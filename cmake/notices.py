"""Writes the notices of everything third-party that is compiled into pensive: crates and C++ headers.

    notices.py --manifest lib/text/door/Cargo.toml --out THIRD_PARTY_NOTICES.txt [--cargo cargo]

Stops where a licence is not on the list of those that let anybody use and pass on pensive."""
import argparse
import json
import pathlib
import re
import subprocess
import sys

PERMISSIVE = {"MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "Zlib", "Unicode-3.0", "BSL-1.0", "Unlicense",
              "ISC", "0BSD", "CC0-1.0", "Apache-2.0 WITH LLVM-exception"}
# Headers, listed where a source includes them: their folder, package of Debian, name, licence, where they come from.
HEADERS = [
    ("fmt", "libfmt-dev", "fmt", "MIT", "https://github.com/fmtlib/fmt"),
    ("nlohmann", "nlohmann-json3-dev", "nlohmann-json", "MIT", "https://github.com/nlohmann/json"),
    ("Eigen", "libeigen3-dev", "Eigen", "MPL-2.0", "https://eigen.tuxfamily.org"),
    ("CLI", "libcli11-dev", "CLI11", "BSD-3-Clause", "https://github.com/CLIUtils/CLI11"),
    ("pybind11", "pybind11-dev", "pybind11", "BSD-3-Clause", "https://github.com/pybind/pybind11"),
]
ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|UNLICENSE)[^/]*$", re.I)


def is_permissive(expression):
    """Whether an SPDX expression, in cargo's old spelling or its new one, offers a permissive licence."""
    text = expression.replace("/", " OR ").replace("(", " ( ").replace(")", " ) ")
    text = re.sub(r"\s+WITH\s+", " WITH ", re.sub(r"\s+", " ", text)).strip()
    while "(" in text:  # innermost brackets first
        text = re.sub(r"\( ([^()]*) \)", lambda match: "MIT" if is_permissive(match[1]) else "refused", text)
    return any(all(part.strip() in PERMISSIVE for part in choice.split(" AND ")) for choice in text.split(" OR "))


def crates(cargo, manifest):
    host = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    host = re.search(r"host: (\S+)", host)[1]
    found = json.loads(subprocess.run(
        [cargo, "metadata", "--locked", "--format-version", "1", "--filter-platform", host, "--manifest-path", manifest],
        stdout=subprocess.PIPE, text=True, check=True).stdout)
    used = {node["id"] for node in found["resolve"]["nodes"]} - {found["resolve"]["root"]}
    return sorted((package for package in found["packages"] if package["id"] in used),
                  key=lambda package: (package["name"], package["version"]))


def included():
    """The folders that sources include headers from."""
    sources = [path for folder in ("include", "lib", "capi", "bindings") for path in (ROOT / folder).rglob("*")
               if path.suffix in (".h", ".cpp", ".c", ".cu")]
    return {name for path in sources for name in re.findall(r"#include [<\"](\w+)/", path.read_text(encoding="utf-8"))}


def texts(folder):
    """The licence files of a crate and of what it bundles, each text once."""
    seen = {}
    for path in sorted(folder.rglob("*")):
        if NAMES.match(path.name) and path.is_file():
            seen.setdefault(path.read_text(encoding="utf-8", errors="replace").strip(), path.relative_to(folder))
    return [(str(path), text) for text, path in seen.items()]


def entry(title, licence, where, found, numbers):
    """A few lines that point to the texts, which many share; `numbers` gathers them."""
    lines = [title, f"  licence: {licence}", f"  from:    {where}"]
    for name, text in found:
        lines.append(f"  {name}: text {numbers.setdefault(text, len(numbers) + 1)}")
    return "\n".join(lines)


def main():
    flags = argparse.ArgumentParser()
    flags.add_argument("--manifest", required=True)
    flags.add_argument("--out", required=True, type=pathlib.Path)
    flags.add_argument("--cargo", default="cargo")
    flags = flags.parse_args()
    parts = ["What is compiled into pensive beside its own code, and under which licence.\n"
             "libtorch and CUDA are opened when pensive runs and are not part of it."]
    refused, numbers = [], {}
    for crate in crates(flags.cargo, flags.manifest):
        licence = crate["license"] or "none"
        if not is_permissive(licence):
            refused.append(f"{crate['name']}: {licence}")
        found = texts(pathlib.Path(crate["manifest_path"]).parent)
        parts.append(entry(f"{crate['name']} {crate['version']} (crate)", licence, crate["repository"] or "", found,
                           numbers))
    for package, name, licence, where in [header[1:] for header in HEADERS if header[0] in included()]:
        if not is_permissive(licence):
            refused.append(f"{name}: {licence}")
        path = pathlib.Path("/usr/share/doc") / package / "copyright"
        found = [("copyright", path.read_text(encoding="utf-8").strip())] if path.exists() else []
        parts.append(entry(f"{name} (headers)", licence, where, found, numbers))
    if refused:
        sys.exit(f"expected permissive licences; found {', '.join(refused)} ({flags.manifest})")
    parts += [f"{'=' * 100}\ntext {number}\n\n{text}" for text, number in numbers.items()]
    flags.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
