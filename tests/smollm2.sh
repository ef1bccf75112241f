#!/usr/bin/env bash
# A real checkpoint in .setup/smollm2 and Transformers in .setup/peers, made where they are missing (2 GB).
set -euo pipefail
smollm2=.setup/smollm2
[[ ! -f $smollm2/golden.json || ! -x .setup/peers/bin/python ]] || exit 0
python3 -m venv .setup/peers
.setup/peers/bin/pip install --quiet torch==2.11.0 transformers==5.23.0 gguf accelerate
.setup/peers/bin/python tests/make_smollm2.py "$smollm2"
