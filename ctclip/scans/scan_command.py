"""`ctclip predict SCAN...` and `ctclip embed SCAN...`: single NIfTI or DICOM studies, no store needed."""

import argparse
from pathlib import Path

import numpy as np

from ctclip.embed import Embeddings, write_embeddings
from ctclip.errors import ConfigError
from ctclip.findings import KNOWN_FINDINGS
from ctclip.scans.prediction import format_prediction, predict_scan, read_phenotype_names, write_predictions
from ctclip.scans.scan import read_scans
from ctclip.scans.scan_model import MERLIN_TEXT, ScanModel, embed_scan, open_merlin, open_run_model
from ctclip.texts.prompts import PromptSet, default_prompts, load_prompts

DEFAULT = "default"


def add_scan_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that say which model and which scans."""
    parser.add_argument("scans", nargs="*", type=Path, metavar="SCAN", help=".nii, .nii.gz, DICOM folder or zip")
    parser.add_argument("--checkpoint", type=Path, help="Merlin's checkpoint, .pt or .safetensors, in place of --run")
    parser.add_argument("--preset", help="with --run: how `ctload pack` made its store (default: read from the store)")
    parser.add_argument("--series", help="which series of a DICOM study, where there are several")
    parser.add_argument("--resample-irregular", action="store_true", help="correct gantry tilt and varying gaps")


def predict(words: list[str]) -> int:
    """`ctclip predict SCAN... --checkpoint merlin.pt | --run RUN`: phenotypes and zero-shot findings of scans."""
    parser = argparse.ArgumentParser(prog="ctclip predict", description=predict.__doc__)
    add_scan_arguments(parser)
    parser.add_argument("--run", type=Path, help="folder of a training run")
    parser.add_argument("--prompts", help="JSON of prompts by finding, or default (with --run: default)")
    parser.add_argument("--text", default=MERLIN_TEXT, help="with --checkpoint: folder or name of its text encoder")
    parser.add_argument("--phenotypes", type=Path, help="names of the classifier's outputs, one per line, in order")
    parser.add_argument("--top", type=int, default=20, help="phenotypes that are printed; the JSON has all")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_args(words)
    prompts = _prompts(args.prompts or (DEFAULT if args.run else None))
    model = open_scan_model(args, text=args.text if prompts else None)
    names = read_phenotype_names(args.phenotypes) if args.phenotypes else ()
    predictions = []
    for scan in _scans(args, model):
        predictions.append(predict_scan(model, scan, prompts=prompts, phenotype_names=names))
        print(format_prediction(predictions[-1], num_phenotypes=args.top))
    if args.json is not None:
        write_predictions(predictions, model, prompts, args.json)
        print(f"written: {args.json}")
    return 0


def embed_scans(args: argparse.Namespace) -> int:
    """Write embeddings of args.scans to args.out as .npz: study, image, pooled, checkpoint, split."""
    model = open_scan_model(args, text=None)
    scans, images, pooled = [], [], []
    for scan in _scans(args, model):
        features = embed_scan(model, scan)
        scans.append(scan.study)
        images.append(features.image)
        pooled.append(features.pooled)
    embeddings = Embeddings(tuple(scans), np.stack(images), model.digest, pooled=np.stack(pooled))
    path = write_embeddings(embeddings, args.out or Path(f"{scans[0]}.npz"))
    print(f"{len(scans)} scans, image ({len(images[0])}) and pooled ({len(pooled[0])}) of each: {path}")
    return 0


def open_scan_model(args: argparse.Namespace, *, text: str | None) -> ScanModel:
    """The model that the words name.

    Raises:
        ConfigError: None or two were named.
    """
    if (args.checkpoint is None) == (args.run is None):
        raise ConfigError("name one model: --checkpoint merlin.pt, or --run RUN")
    if args.checkpoint is None:
        return open_run_model(args.run, preset=args.preset, device=args.device)
    if args.preset is not None:
        raise ConfigError(f"--preset {args.preset} goes with --run; Merlin's checkpoint has Merlin's grid")
    return open_merlin(args.checkpoint, text=text, device=args.device)


def _scans(args: argparse.Namespace, model: ScanModel):
    if not args.scans:
        raise ConfigError("no scan was given; name a .nii, a .nii.gz, a DICOM folder or a zip")
    for path in args.scans:
        yield from read_scans(
            path,
            preset=model.preset,
            is_rounded=model.is_rounded,
            series=args.series,
            resample_irregular=args.resample_irregular,
        )


def _prompts(name: str | None) -> PromptSet | None:
    if name is None:
        return None
    return default_prompts(KNOWN_FINDINGS) if name == DEFAULT else load_prompts(name)
