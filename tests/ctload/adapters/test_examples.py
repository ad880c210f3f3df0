"""The examples of ctload/README.md run as they stand there."""

import re
from pathlib import Path
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
@pytest.mark.parametrize("name", ["torch", "lightning", "monai"])
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    for package in ("torch", name):
        pytest.importorskip(package, reason=f"needs {package}")
    store = synthetic_store(tmp_path / "store.zarr", 6, (20, 40, 40), labels=("organs",))
    exec(EXAMPLES[name], {"ctload": ctload, "studies": store.studies, **surroundings(name)})


def test_every_example_of_the_section_is_run() -> None:
    assert sorted(EXAMPLES) == ["lightning", "monai", "torch"]
