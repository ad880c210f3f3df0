"""The words of `ctclip train` and `ctclip doctor` as a configuration: a preset or a file, and what overrides it."""

import argparse
from pathlib import Path

import tyro

from ctclip.config import TrainConfig
from ctclip.config_json import from_json
from ctclip.errors import ConfigError
from ctclip.presets import OLD_PRESET_NAMES, PRESETS, preset


def config_of_words(words: list[str], *, prog: str, purpose: str) -> TrainConfig:
    """The configuration that a command line asks for.

    Args:
        words: `--preset NAME` or `--config FILE.json`, then options of TrainConfig.
        prog: For the help.
        purpose: First sentence of the help.

    Raises:
        ConfigError: The file is missing, no JSON, or has an unknown key.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    base = first.add_mutually_exclusive_group()
    base.add_argument("--preset", default="tiny", choices=sorted([*PRESETS, *OLD_PRESET_NAMES]))
    base.add_argument("--config", type=Path)
    chosen, rest = first.parse_known_args(words)
    source = f"the file {chosen.config}" if chosen.config else f"preset {chosen.preset}"
    return tyro.cli(
        TrainConfig,
        default=read_config_file(chosen.config) if chosen.config else preset(chosen.preset),
        args=rest,
        prog=prog,
        description=f"{purpose} --preset {{{','.join(sorted(PRESETS))}}} or --config FILE.json (such as a run's "
        f"config.json) sets the defaults below, now {source}; any option overrides it.",
    )


def read_config_file(path: Path) -> TrainConfig:
    """A configuration from a file as every run's folder has one.

    Raises:
        ConfigError: No such file, no JSON, an unknown key or a wrong value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot be read ({error}); name a JSON file such as a run's config.json", path=path
        ) from error
    return from_json(text, TrainConfig, path=path)
