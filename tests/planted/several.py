"""Training runs whose inside is known, and differs only in numbers: the planted model, with its heads in another order."""

from __future__ import annotations

from planted import FIELDS, planted_weights
from tiny import read_claim, write_tiny

SIZES = {key: FIELDS[key] for key in ("n_digits", "n_layers", "n_heads", "d_model", "d_mlp")}
ORDERS = {"run_s0": [0, 1, 2], "run_s1": [2, 0, 1], "run_s2": [0, 1, 2]}  # the planted heads, as each run has them
# Of s0, head 0 and head 1 copy the digits; of s1, these are heads 1 and 2. Written by hand: the oracle.
KNOWN = {
    "run_s0": {"base_add.A0": "S4L0H0+H1", "carry.A1": "S3L0H0+H1"},
    "run_s1": {"base_add.A0": "S4L0H1+H2", "carry.A1": "S3L0H1+H2"},
}
IDLE = {
    "run_s0": {"base_add.A0": "S4L0H2", "carry.A1": "S3L0H2"},
    "run_s1": {"base_add.A0": "S4L0H0", "carry.A1": "S3L0H0"},
}
ASKED = "questions: {n: 1500, seed: 3}\n"
GROUP = 'fixtures: ["run_s[01]"]\n'


def weights_of(order):
    return {
        name: tensor[order] if ".attn." in name and name.split(".")[-1] != "b_O" else tensor
        for name, tensor in planted_weights().items()
    }


def write_run(path, name, order=None, roles=True):
    write_tiny(path, name, weights=weights_of(order or ORDERS[name]), **SIZES)
    if roles and name in KNOWN:
        base, carry = KNOWN[name]["base_add.A0"], KNOWN[name]["carry.A1"]
        text = f"version: 1\nroles:\n  base_add: {{A0: {base}}}\n  carry: {{A1: {carry}}}\n"
        (path / name / "roles.yaml").write_text(text, "utf-8")


def read(tmp_path, text, runs):
    return read_claim(tmp_path, text, runs, "run_s0")


ASKED = "questions: {n: 1500, seed: 3}\n"
