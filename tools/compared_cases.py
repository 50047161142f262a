"""Cases of the regression net: named sequences of cellcount command lines.

In a command line ``{data}`` stands for the folder of the input data. Each case runs in an empty
folder of its own. A step that is a function edits files in that folder between two commands.
"""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass

from tools.compared_steps import (
    COLOURS,
    CONTINUED_DETECTOR,
    NEW_DETECTOR,
    OUTPUTS,
    PACKAGED_TYPED,
    PLUGIN_CLASSIFIER,
    SMALL_CLASSIFIER,
    SMALL_DETECTOR,
    TINY,
    TYPED,
    UNTYPED,
    Step,
    add_bom,
    change_log,
    copy_key,
    fill_corrections,
    list_known_cells,
    remove_outputs,
)

COMMANDS = (
    "", "analyze", "classify", "merge", "doctor", "train", "train detector", "train classifier",
    "evaluate", "evaluate detector", "evaluate classifier", "evaluate counts",
    "evaluate repeatability", "datasets", "datasets inspect", "datasets convert",
    "datasets render", "datasets types", "models", "models list", "models show", "models check",
    "models compare", "models export", "models explain", "review", "review export",
    "review apply", "review open", "adapt", "adapt classifier", "adapt detector", "control",
    "control run", "control history", "profiles", "profiles list", "profiles show",
    "profiles check",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A sequence of commands whose outputs are compared.

    Attributes:
        name: unique, also that of its folder.
        steps: what is run, in order.
    """

    name: str
    steps: tuple[Step, ...]

    def fingerprint(self) -> str:
        """SHA-256 of all that the case runs."""
        texts = [s if isinstance(s, str) else inspect.getsource(s) for s in self.steps]
        return hashlib.sha256("\n".join([self.name, *texts]).encode()).hexdigest()


def _analyze_cases() -> dict[str, list[Step]]:
    smears = "analyze {data}/smears"
    slides = "analyze {data}/slides"
    damaged = "analyze {data}/damaged"
    return {
        "analyze-packaged": [f"{smears} {OUTPUTS} --annotated o/drawn --device cpu"],
        "analyze-untyped": [
            f"{smears} {OUTPUTS} --annotated o/drawn --classifier none --device cpu"
        ],
        "analyze-counts": [f"{slides} --out counts.csv {UNTYPED}"],
        "analyze-tiny": [f"{slides} {OUTPUTS} --annotated o/drawn {UNTYPED}"],
        "analyze-plugin-types": [f"{slides} {OUTPUTS} --annotated o/drawn {TYPED}"],
        "analyze-flagged": [
            f"{damaged} --out c.csv --annotated drawn --annotate flagged {UNTYPED}"
        ],
        "analyze-mapped": [f"{smears} {OUTPUTS} --map pbc-8:wbc-5 --device cpu"],
        "analyze-clopper-adjusted": [
            f"{smears}/slide-A --out c.csv --slides s.csv --report r.html --device cpu "
            "--limits clopper-pearson --adjust card",
            f"evaluate classifier {{data}}/crops --rbc-px 40 --out e --device cpu {COLOURS}",
            f"{smears}/slide-A --out d.csv --slides t.csv --device cpu {COLOURS} "
            "--adjust e/confusion.csv",
        ],
        "analyze-parquet": [
            f"{slides} --out c.parquet --cells cells.parquet --slides s.parquet {TYPED}",
            f"{slides} --out u.parquet --cells u-cells.parquet {UNTYPED}",
        ],
        "analyze-csv-forms": [
            f"{slides} --out c.csv --cells cells.csv --slides s.csv {TYPED} "
            "--csv-separator ; --csv-bom",
            f"{slides} --out c.csv --cells cells.csv --slides s.csv {TYPED}",
        ],
        "analyze-pseudonyms": [
            copy_key,
            f"{smears} {OUTPUTS} --annotated o/drawn --pseudonymize key.csv --device cpu",
            f"{damaged} {OUTPUTS.replace('o/', 'p/')} --pseudonymize key.csv {UNTYPED}",
        ],
        "analyze-marrow": [
            f"{smears} --out c.csv --slides s.csv --report r.html --classifier marrow-types "
            "--profile bone-marrow --device cpu --force-profile",
            f"{smears} --out d.csv --profile bone-marrow --device cpu",
        ],
        "analyze-strict-profile": [
            f"{damaged} {OUTPUTS} --annotated o/drawn {TYPED} --profile {{data}}/strict.toml",
            f"{damaged} {OUTPUTS.replace('o/', 'p/')} {TYPED} --profile peripheral-blood",
            f"{slides} --out w.csv {TYPED} --profile {{data}}/wrong.toml",
        ],
    }  # fmt: skip


def _other_analyze_cases() -> dict[str, list[Step]]:
    slides, damaged = "analyze {data}/slides", "analyze {data}/damaged"
    smears = "analyze {data}/smears"
    return {
        "analyze-stain": [
            f"{smears}/slide-A --out c.csv --cells cells.csv --stain-reference bccd --device cpu",
            f"{slides} --out d.csv --cells e.csv {TYPED} --stain-reference pbc "
            "--stain-for classifier --annotated drawn",
            f"{slides} --out f.csv {UNTYPED} --stain-for detector "
            "--stain-reference {data}/smears/slide-A/field-1.jpg",
            f"{slides} --out g.csv {UNTYPED} --stain-reference bcd",
        ],
        "analyze-manifest": [
            f"analyze {{data}}/manifest.csv {OUTPUTS} --annotated o/drawn {TYPED}",
            "analyze {data}/smears.csv --out c.csv --slides s.csv --report r.html --device cpu",
        ],
        "analyze-inputs": [
            f"analyze {{data}}/slides/a/1.png --out one.csv --cells o.csv {UNTYPED}",
            f"analyze '{{data}}/slides/*/*.*' --out glob.csv {UNTYPED}",
            f"{slides} {{data}}/manifest.csv --out both.csv {UNTYPED}",
            f"{slides} --out named.csv --slides s.csv {TYPED} "
            "--slide-from '(?P<specimen>[ab])/(?P<slide>.*)$'",
        ],
        "analyze-numbers": [
            f"{slides} --out a.csv --cells ac.csv {UNTYPED} --um-per-px 0.2 --min-score 0.4 "
            "--edge-rule two-sides",
            f"{slides} --out b.csv --cells bc.csv {UNTYPED} --batch-size 2 --tile-px 256",
            f"{slides} --out c.csv --cells cc.csv {UNTYPED} --precision bf16",
            f"{slides} --out d.csv {UNTYPED} --workers 1 --max-pixels 1000",
        ],
        "analyze-refinement": [
            f"{slides} --out {n}.csv --cells {n}-cells.csv --detector {{data}}/looking "
            f"--classifier none --device cpu {more}"
            for n, more in (("card", ""), ("one", "--refine-steps 1"), ("no", "--refine-steps 0"))
        ],
        "analyze-damaged": [
            f"{damaged} {OUTPUTS} --annotated o/drawn {UNTYPED}",
            f"{damaged} --out f.csv {UNTYPED} --max-failure-rate 0.05",
            f"analyze {{data}}/damaged/a/empty.png --out n.csv {UNTYPED}",
        ],
        "analyze-resume": [
            f"{damaged} {OUTPUTS} --annotated o/drawn {TYPED}",
            f"{damaged} {OUTPUTS} --annotated o/drawn {TYPED}",
            remove_outputs,
            f"{damaged} {OUTPUTS} --annotated o/drawn {TYPED}",
            f"{damaged} --out o/counts.csv {UNTYPED}",
            f"{damaged} --out o/counts.csv {UNTYPED} --fresh",
        ],
        "analyze-dry-run": [
            f"{slides} --out c.csv {UNTYPED} --dry-run",
            f"{damaged} {OUTPUTS} --annotated o/drawn {TYPED} --dry-run",
            f"analyze {{data}}/scans --out s.csv {UNTYPED} --dry-run --max-pixels 2000000",
        ],
        "analyze-whole-slide": [
            f"analyze {{data}}/scans {OUTPUTS} --annotated o/drawn {UNTYPED} --max-pixels 2000000",
            f"analyze {{data}}/scans --out t.csv --cells tc.csv {TYPED} --max-pixels 1000000 "
            "--um-per-px 0.2",
            f"analyze {{data}}/scans --out w.csv {UNTYPED}",
        ],
    }  # fmt: skip


def _followed_cases() -> dict[str, list[Step]]:
    """Return the cases that go on from the outputs of analyze, and those of classify."""
    return {
        "shards": [
            copy_key,
            *(
                f"analyze {{data}}/damaged --out parts/{n}.csv --shard {n}/2 {TYPED}"
                for n in (1, 2)
            ),
            f"merge parts {OUTPUTS}",
            "merge parts/1.csv --out one.csv",
            f"analyze {{data}}/damaged --out other/2.csv --shard 2/2 {UNTYPED}",
            "merge parts/1.csv other/2.csv --out mixed.csv",
            "merge parts --out p/p.parquet --cells p/pc.parquet --pseudonymize key.csv",
            "merge parts --out b.csv --cells bc.csv --csv-separator ; --csv-bom",
            f"analyze {{data}}/slides --out x.csv --shard 3/2 {UNTYPED}",
        ],
        "classify": [
            "classify {data}/crops --out c.csv --device cpu",
            "classify {data}/crops/val --out d.csv --rbc-px 40 --map pbc-8:wbc-5 --device cpu",
            f"classify {{data}}/crops {{data}}/damaged --out e.csv {COLOURS} --um-per-px 0.2 "
            "--device cpu --csv-separator ; --csv-bom --batch-size 5 --workers 1",
            "classify {data}/tables --out f.csv --device cpu",
        ],
        "review": [
            f"analyze {{data}}/smears {OUTPUTS} --annotated o/drawn {PACKAGED_TYPED}",
            "review export o/counts.csv --out look --all --limit 7",
            "review export o/counts.csv --out some",
            "review export o/counts.csv --out lym --types LYM",
            "review export o/counts.csv --out wrong --types lymphocyt",
            "review apply o/counts.csv look/corrections.csv --reviewer A",
            fill_corrections,
            "review apply o/counts.csv filled.csv --reviewer A",
            add_bom,
            "review apply o/counts.csv sheet.csv --reviewer B",
            "review export o/counts.csv --out again --all",
            f"analyze {{data}}/smears {OUTPUTS} --annotated o/drawn {PACKAGED_TYPED}",
            f"analyze {{data}}/smears --out o/counts.csv {PACKAGED_TYPED} --fresh",
        ],
        "review-packaged": [
            "analyze {data}/smears/slide-A --out c.csv --cells cells.csv --slides s.csv "
            "--report r.html --device cpu",
            "review export c.csv --out look --all",
            fill_corrections,
            "review apply c.csv filled.csv --reviewer 'Dr. C'",
        ],
        "control": [
            f"analyze {{data}}/smears --out o/counts.csv --cells o/cells.csv {PACKAGED_TYPED}",
            list_known_cells,
            "control run {data}/smears --expected expected.csv --device cpu --classifier none",
            f"control run {{data}}/smears --expected expected.csv {PACKAGED_TYPED}",
            "control run {data}/smears --expected more.csv --device cpu --classifier none "
            "--new-baseline",
            "control run {data}/damaged --expected expected.csv --device cpu --classifier none",
            "control history control.csv --out history.html",
            "control history control.csv --out history.png",
            change_log,
            "control history control.csv",
            "control run {data}/smears --expected expected.csv --device cpu --classifier none",
            "control run {data}/smears --expected none.csv --device cpu --classifier none",
        ],
    }


def _measured_cases() -> dict[str, list[Step]]:
    counts = "evaluate counts {data}/tables/slides.csv {data}/tables/manual.csv"
    repeats = "evaluate repeatability {data}/tables"
    crops = "evaluate classifier {data}/crops --rbc-px 40 --device cpu"
    return {
        "evaluate-detector": [
            "evaluate detector {data}/fields --device cpu --json a.json --csv a.csv",
            "evaluate detector {data}/smears --device cpu --json s.json --csv s.csv",
            "evaluate detector {data}/sets/voc --device cpu --detector {data}/tiny.safetensors "
            "--classes as-is --min-score 0.4 --um-per-px 0.2 --json b.json",
            "evaluate detector {data}/sets/yolo --device cpu --detector {data}/looking "
            "--stain-reference bccd --refine-steps 1",
            "evaluate detector {data}/sets/broken --device cpu --split val "
            "--detector {data}/tiny.safetensors --csv c.csv",
        ],
        "evaluate-robustness": [
            "evaluate detector {data}/sets/broken --split val --device cpu --robustness "
            "--detector {data}/tiny.safetensors --json r.json --csv r.csv",
            f"{crops} --split val {COLOURS} --robustness --json c.json --csv c.csv",
        ],
        "evaluate-classifier": [
            f"{crops} --split val --json a.json --csv a.csv --out a",
            f"{crops} {COLOURS} --json b.json --out b",
            f"{crops} {COLOURS} --map pbc-8:wbc-5 --prior profile --json c.json",
            f"{crops} --split val --stain-reference pbc --json d.json --prior uniform",
            f"evaluate classifier {{data}}/typed --rbc-px 15 --device cpu {COLOURS} --json e.json",
        ],
        "evaluate-counts": [
            f"{counts} --out out --csv a.csv --json a.json",
            f"{counts} --out page.html",
            f"{counts} --threshold lymphocytes=30 --threshold 50 --error-ratio 2 --json b.json",
            f"{counts} --values counts --outside monocytes --json c.json",
            f"{counts} --values counts --outside monocytes --json c.json "
            "--pair segmented_neutrophils=lymphocytes",
            f"{counts} --level specimen",
            f"{counts} --threshold much",
            f"{counts} --pair x",
        ],
        "evaluate-repeatability": [
            f"{repeats}/repeats.csv --out r.html --csv r.csv --json r.json",
            f"{repeats}/repeats.csv --values percent --outside LYM",
            f"{repeats}/manual.csv",
        ],
        "evaluate-run-slides": [
            "analyze {data}/smears --out c.csv --slides s.csv --device cpu",
            "evaluate counts s.csv s.csv --out out",
        ],
    }  # fmt: skip


def _datasets_cases() -> dict[str, list[Step]]:
    return {
        "datasets-inspect": [
            *(
                f"datasets inspect {{data}}/{name} --picture {n}.png --copies {n}.csv "
                f"--json {n}.json"
                for n, name in enumerate((
                    "fields", "crops", "table", "lmu", "mll", "typed", "sets/coco", "sets/voc",
                    "sets/yolo", "sets/folders", "sets/labelme", "sets/via", "sets/csv",
                    "sets/broken", "smears",
                ))
            ),
            "datasets inspect {data}/lmu --fine",
            "datasets inspect {data}/tables",
        ],
        "datasets-convert": [
            *(
                f"datasets convert {{data}}/{name} --to {form} --out {n}"
                for n, (name, form) in enumerate((
                    ("fields", "folders"), ("sets/voc", "coco"), ("sets/yolo", "voc"),
                    ("sets/labelme", "yolo"), ("sets/via", "coco"), ("sets/csv", "coco"),
                    ("sets/broken", "folders"), ("table", "folders"), ("lmu", "folders"),
                    ("mll", "folders"), ("crops", "coco"), ("sets/folders", "folders"),
                ))
            ),
            "datasets convert {data}/sets/coco --to yolo --classes blood --out b",
            "datasets convert {data}/sets/broken --to voc --split train --out t",
            "datasets convert {data}/typed --to folders --rbc-px 15 --window 2 --out w",
            "datasets convert {data}/typed --to folders --out w",
        ],
        "datasets-render": [
            "datasets render --out r --fields 3 --size 200x160 --seed 7 --density 0.2-0.6",
            "datasets render --out x --size 3",
        ],
        "datasets-types": [
            "datasets types",
            *(
                f"datasets types {name}"
                for name in (
                    "aml-fab-8", "aml-lmu-15", "lineage-5", "mll-7", "mll-14", "mll-21", "pbc-8",
                    "pbc-13", "wbc-5", "zju-7", "mll21", "{data}/wrong-types.toml",
                )
            ),
        ],
    }  # fmt: skip


def _model_cases() -> dict[str, list[Step]]:
    models = ("blood", "blood-types", "marrow-types", "{data}/tiny.safetensors", "{data}/looking",
              "{data}/colours", "{data}/wrong.safetensors", "nothing")  # fmt: skip
    plugins = "--plugins {data}/plugins"
    explain = "models explain {data}/slides/a/1.png --device cpu --out"
    return {
        "models-list": ["models list", f"models list {plugins}"],
        "models-show": [
            *(f"models show {name} {plugins}" for name in models),
            *(f"models show {name} --json" for name in models),
        ],
        "models-check": [
            *(f"models check {name} {plugins}" for name in models),
            f"models check colour {plugins}",
            "models check foldernet --plugins {data}/backbones",
            "models check timm/test_resnet --as backbone",
        ],
        "models-explain": [
            f"{explain} a.png --cell 1 --detector {{data}}/looking",
            f"{explain} b.png --cell 9999 --detector {{data}}/looking",
            f"{explain} c.png --cell 1 --detector {{data}}/tiny.safetensors",
        ],
        "models-export": [
            "models export {data}/tiny.safetensors --format detectron2 --out e",
            "models export blood-types --format detectron2 --out e",
        ],
        "models-compare": [
            "models compare {data}/crops --backbones colour,{data}/colours,nonsense --out m "
            f"--epochs 1 --set input_px=0 --rbc-px 40 --window 1 --workers 0 --device cpu {plugins}"
        ],
        "profiles": [
            "profiles list",
            "profiles show peripheral-blood",
            "profiles show bone-marrow",
            "profiles show bone-marrow --toml",
            "profiles show {data}/strict.toml",
            "profiles check peripheral-blood",
            "profiles check {data}/strict.toml",
            "profiles check {data}/wrong.toml",
            "profiles check nothing",
        ],
    }  # fmt: skip


def _training_cases() -> dict[str, list[Step]]:
    return {
        "train-detector": [
            f"train detector {{data}}/sets/broken --out given {NEW_DETECTOR} --set split=given",
            f"train detector {{data}}/fields --out run {NEW_DETECTOR}",
            f"train detector {{data}}/fields --out run {NEW_DETECTOR}",
            f"train detector {{data}}/fields --out run {NEW_DETECTOR} --resume",
            "analyze {data}/slides --out c.csv --cells cells.csv --detector run --device cpu "
            "--classifier none --min-score 0.05",
            "models show run",
        ],
        "train-detector-refinement": [
            f"train detector {{data}}/sets/broken --out look {CONTINUED_DETECTOR} "
            "--init {data}/tiny.safetensors --refine-steps 2 --set learn=heads "
            "--set refine_hidden=16 --set refine_heads=2 --set refine_grid=6",
            f"train detector {{data}}/fields --out paid {CONTINUED_DETECTOR} --init look "
            "--refine-steps 2 --refine-objective actor-critic --set learn=refinement "
            "--set refine_hidden=16 --set refine_heads=2 --set refine_grid=6",
            "analyze {data}/slides --out c.csv --cells cells.csv --detector paid --device cpu "
            "--classifier none",
        ],
        "train-detector-plugin": [
            f"train detector {{data}}/fields {{data}}/sets/csv --out run {SMALL_DETECTOR} "
            "--backbone foldernet --plugins {data}/backbones --set finest_stride=8 "
            "--set pyramid_channels=32 --pyramid bottom-up",
            "models show run --plugins {data}/backbones",
            "models show run",
        ],
        "train-classifier": [
            f"train classifier {{data}}/crops --out run {SMALL_CLASSIFIER} --taxonomy pbc-8 "
            "--backbone timm/test_efficientnet --rbc-px 40 --set input_px=64",
            f"train classifier {{data}}/crops --out run {SMALL_CLASSIFIER} --taxonomy pbc-8 "
            "--backbone timm/test_efficientnet --rbc-px 40 --set input_px=64 --resume",
            "analyze {data}/slides --out c.csv --cells cells.csv --device cpu --classifier run "
            "--detector {data}/tiny.safetensors",
            "evaluate classifier {data}/crops --split val --classifier run --json e.json "
            "--device cpu",
            "models show run",
        ],
        "train-classifier-forms": [
            f"train classifier {{data}}/table --out t {PLUGIN_CLASSIFIER} --taxonomy mll-21 "
            "--group patient",
            f"train classifier {{data}}/lmu --out l {PLUGIN_CLASSIFIER} --taxonomy mll-21 "
            "--split 64/16/20 --balance class-weights",
            f"train classifier {{data}}/mll --out m {PLUGIN_CLASSIFIER} --taxonomy mll-21 "
            "--split 80/20 --map mll-21:lineage-5",
            f"train classifier {{data}}/typed --out y {PLUGIN_CLASSIFIER} --taxonomy pbc-8 "
            "--split 80/20 --rbc-px 15",
            f"train classifier {{data}}/crops --out o {PLUGIN_CLASSIFIER} --taxonomy pbc-8 "
            "--scheme ovr --prior profile",
            f"train classifier {{data}}/crops --out w {PLUGIN_CLASSIFIER} --split 60/20",
            f"train classifier {{data}}/mll --out w {PLUGIN_CLASSIFIER} --group patient "
            "--split 80/20",
        ],
    }


def _other_cases() -> dict[str, list[Step]]:
    slides = "analyze {data}/slides --out c.csv"
    return {
        "help": ["--version", *(f"{command} --help".strip() for command in COMMANDS)],
        "doctor": ["doctor"],
        "errors": [
            "",
            "analyse",
            "analyze",
            "analyze {data}/slides",
            f"{slides} --no-such-option",
            f"{slides} --engine x",
            f"{slides} --csv-separator x",
            f"analyze {{data}}/gone --out c.csv {UNTYPED}",
            f"analyze {{data}}/tables --out c.csv {UNTYPED}",
            f"analyze '{{data}}/*.nothing' --out c.csv {UNTYPED}",
            f"{slides} --detector {{data}}/wrong.safetensors",
            f"{slides} --detector {{data}}/colours",
            f"{slides} --detector nothing",
            f"{slides} {TINY} --classifier {{data}}/tiny.safetensors",
            f"{slides} {TINY} --classifier {{data}}/colours",
            f"{slides} {TINY} --map wbc-5",
            f"{slides} {UNTYPED} --slides s.csv",
            f"{slides} {UNTYPED} --cells c.csv",
            f"{slides} {UNTYPED} --refine-steps 2",
            f"{slides} {UNTYPED} --device cuda:7",
            f"{slides} {UNTYPED} --engine detectron2",
            f"{slides} {UNTYPED} --runner ray",
            f"{slides} {UNTYPED} --min-score 3",
            f"{slides} {UNTYPED} --slide-from '('",
            f"{slides} {UNTYPED} --shard slurm",
            f"{slides} {UNTYPED} --adjust card",
            f"{slides} {UNTYPED} --profile nothing",
            "merge {data}/tables --out c.csv",
            "classify {data}/crops --out c.csv --classifier blood",
            "review export c.csv --out x",
            "evaluate detector {data}/tables",
            "evaluate classifier {data}/fields --device cpu",
            "train detector {data}/fields --out t --recipe x",
            "train detector {data}/fields --out t --set no=1",
            "train detector {data}/fields --out t --set lr=x",
            "train classifier {data}/crops --out t --taxonomy mll21",
            "train classifier {data}/crops --out t --backbone nothing",
            "--debug models show nothing",
        ],
    }


def all_cases() -> tuple[Case, ...]:
    """All cases in the order in which they run."""
    groups = (
        _model_cases(), _training_cases(), _analyze_cases(), _other_analyze_cases(),
        _followed_cases(), _measured_cases(), _datasets_cases(), _other_cases(),
    )  # fmt: skip
    return tuple(Case(name, tuple(steps)) for group in groups for name, steps in group.items())
