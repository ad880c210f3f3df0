"""The examples of ctload/README.md run as they stand there."""

import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import ctload
from ctload.testing import synthetic_store

README = Path(ctload.__file__).parent / "README.md"
SECTION = README.read_text(encoding="utf-8").split("## In your framework")[1].split("\n## ")[0]
FIRST_IMPORT = re.compile(r"from (torch|lightning|monai|nnunetv2)\b")
EXAMPLES = {FIRST_IMPORT.findall(code)[0]: code for code in re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)}


def surroundings(name: str) -> dict[str, Any]:
    """What an example takes as given beside `studies`."""
    if name == "nnunetv2":
        intensities = {"mean": 40.0, "std": 130.0, "percentile_00_5": -900.0, "percentile_99_5": 350.0}
        plans = {"foreground_intensity_properties_per_channel": {"0": intensities}}
        label_manager = SimpleNamespace(foreground_labels=[1, 2], all_labels=[0, 1, 2], has_ignore_label=False)
        return {"plans": plans, "label_manager": label_manager}
    if name != "lightning":
        return {}
    import torch

    class Model(pytest.importorskip("lightning").LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def training_step(self, batch: dict[str, Any], _: int) -> Any:
            assert batch["volume"].shape == (2, 1, 16, 32, 32)
            return (self.weight * batch["volume"]).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return {"model": Model(), "quiet": quiet | {"enable_model_summary": False}}


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__` defined")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:monai")
@pytest.mark.parametrize("name", ["torch", "lightning", "monai", "nnunetv2"])
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    for package in ("torch", name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what nnU-Net imports
            pytest.importorskip(package, reason=f"needs {package}")
            if package == "nnunetv2":
                pytest.importorskip("nnunetv2.training.dataloading.data_loader", exc_type=ImportError)
    store = synthetic_store(tmp_path / "store.zarr", 6, (20, 40, 40), labels=("organs",))
    given = {"ctload": ctload, "store": store, "studies": store.studies, **surroundings(name)}
    exec(EXAMPLES[name], given)
    if name == "nnunetv2":
        assert given["batch"]["data"].shape == given["batch"]["target"].shape == (2, 1, 16, 32, 32)


def test_every_example_of_the_section_is_run() -> None:
    assert sorted(EXAMPLES) == ["lightning", "monai", "nnunetv2", "torch"]
