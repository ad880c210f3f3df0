"""MONAI: what a MetaDataset gives is what MONAI's own loading gives of the same NIfTI files, and trains the same."""

from typing import Any

import numpy as np
import pytest

import ctload
from ctload.errors import ForkAfterOpenError, LoaderError
from ctload.testing import synthetic_labels, synthetic_volume

nibabel = pytest.importorskip("nibabel", reason="needs nibabel (the nifti extra)")
torch = pytest.importorskip("torch", reason="needs torch (the train extra)")
monai = pytest.importorskip("monai", reason="needs monai (the monai extra)")
adapter = pytest.importorskip("ctload.adapters.monai")

pytestmark = pytest.mark.filterwarnings(
    # MONAI registers a GPU decoder when its reader is made and warns that there is none; not what is tested here.
    "ignore:NvImgCodecPydicomReader:UserWarning",
    # MONAI 1.6 sets the shape of NumPy arrays and calls torch's old names.
    "ignore::DeprecationWarning:monai",
)
KEYS = ("image", "label")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Four volumes of different shapes with label maps, stored left to right and head first."""
    folder = tmp_path_factory.mktemp("nifti")
    made = []
    for number in range(4):
        shape = (20 + 2 * number, 40, 36)
        affine = np.diag([-1.5, -1.25, 3.0, 1.0])
        affine[:3, 3] = (20 + number, 30, -40)
        named = {"image": synthetic_volume(shape, number), "label": synthetic_labels(shape, number)}
        for key, voxels in named.items():
            turned = np.ascontiguousarray(voxels.transpose(2, 1, 0)[::-1, ::-1])
            nibabel.save(nibabel.Nifti1Image(turned, affine), folder / f"{number}-{key}.nii.gz")
        made.append({key: str(folder / f"{number}-{key}.nii.gz") for key in KEYS})
    return made


@pytest.fixture(scope="module")
def studies(files: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> ctload.Studies:
    folder = tmp_path_factory.mktemp("store")
    rows = [f"s{number},{pair['image']},{pair['label']}" for number, pair in enumerate(files)]
    (folder / "table.csv").write_text("\n".join(["study,path,label:organs", *rows]) + "\n")
    ctload.pack([folder / "table.csv"], folder / "four.zarr", preset="native", progress=False)
    return ctload.open_store(folder / "four.zarr").studies


def loading() -> list[Any]:
    return [
        monai.transforms.LoadImaged(KEYS),
        monai.transforms.EnsureChannelFirstd(KEYS),
        monai.transforms.Orientationd(KEYS, axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
    ]


def training() -> list[Any]:
    return [
        monai.transforms.ScaleIntensityRanged("image", -1000, 1000, 0, 1, clip=True),
        monai.transforms.RandCropByPosNegLabeld(KEYS, "label", (16, 16, 16), num_samples=2),
        monai.transforms.RandFlipd(KEYS, prob=0.5, spatial_axis=0),
    ]


def test_items_are_monais_own_voxels_and_affines(files, studies):
    theirs = monai.data.Dataset(files, monai.transforms.Compose(loading()))
    ours = adapter.MetaDataset(studies, labels={"label": "organs"})
    assert len(ours) == len(theirs)
    for number in range(len(files)):
        for key in KEYS:
            mine, other = ours[number][key], theirs[number][key]
            assert torch.equal(mine.as_tensor(), other.as_tensor())
            np.testing.assert_allclose(mine.affine.numpy(), other.affine.numpy(), atol=1e-5)
            assert mine.dtype == other.dtype
    assert ours[1]["image"].meta["filename_or_obj"] == "s1"


def losses_of(dataset: Any, num_steps: int) -> list[float]:
    """A MONAI segmentation training as its tutorials have it."""
    monai.utils.set_determinism(0)
    network = monai.networks.nets.UNet(3, 1, 6, channels=(4, 8), strides=(2,))
    loss_of = monai.losses.DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    while len(losses) < num_steps:
        for batch in monai.data.DataLoader(dataset, batch_size=2, shuffle=True):
            loss = loss_of(network(batch["image"]), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    monai.utils.set_determinism(None)
    return losses[:num_steps]


def test_a_training_goes_the_same_way_with_the_dataset_line_changed(files, studies):
    theirs = monai.data.Dataset(files, monai.transforms.Compose([*loading(), *training()]))
    ours = adapter.MetaDataset(studies, monai.transforms.Compose(training()), labels={"label": "organs"})
    losses = losses_of(ours, 12)
    np.testing.assert_allclose(losses, losses_of(theirs, 12), rtol=1e-4)
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


def test_spawned_workers_collate_affines(studies):
    crop = ctload.RandomCrop((8, 12, 10))
    dataset = adapter.MetaDataset(studies, crop=crop, labels={"label": "organs"}, seed=5)
    loader = monai.data.DataLoader(dataset, batch_size=2, num_workers=1, multiprocessing_context="spawn")
    batches = list(loader)
    assert batches[0]["image"].shape == (2, 1, 10, 12, 8)
    assert batches[0]["image"].affine.shape == (2, 4, 4)
    alone = [dataset[number] for number in range(4)]
    for key in KEYS:
        assert torch.equal(torch.cat([batch[key] for batch in batches]), torch.stack([item[key] for item in alone]))
    origin = alone[2]["image"].affine[:3, 3].numpy()
    assert not np.allclose(origin, dataset._reader.studies.affines[2][:3, 3])
    dataset.set_epoch(1)
    assert not np.allclose(origin, dataset[2]["image"].affine[:3, 3].numpy())


def test_a_forked_worker_is_told_to_spawn(studies):
    loader = monai.data.DataLoader(
        adapter.MetaDataset(studies), batch_size=1, num_workers=1, multiprocessing_context="fork"
    )
    with pytest.raises(ForkAfterOpenError, match="spawn"):
        list(loader)


def test_a_loaders_batch_is_what_monais_loader_collates(studies):
    options: dict[str, Any] = {"crop": ctload.CenterCrop((8, 12, 10)), "labels": ("organs",), "num_threads": 1}
    with ctload.Loader(studies, sampler=ctload.SequentialSampler(2), to="torch", **options) as loader:
        batch = next(iter(loader))
    scaled = monai.transforms.ScaleIntensityRanged("image", -1000, 1000, 0, 1, clip=True)
    dataset = adapter.MetaDataset(studies, scaled, crop=ctload.CenterCrop((8, 12, 10)), labels={"label": "organs"})
    expected = next(iter(monai.data.DataLoader(dataset, batch_size=2)))
    actual = adapter.meta_batch(batch, labels={"label": "organs"})
    torch.testing.assert_close(actual["image"].as_tensor(), expected["image"].as_tensor(), rtol=0, atol=1e-6)
    assert torch.equal(actual["label"].as_tensor(), expected["label"].as_tensor())
    for key in KEYS:
        np.testing.assert_allclose(actual[key].affine.numpy(), expected[key].affine.numpy(), atol=1e-9)
        assert [part.meta["filename_or_obj"] for part in monai.data.decollate_batch(actual[key])] == ["s0", "s1"]


def test_numpy_batches_are_refused(studies):
    with (
        ctload.Loader(studies, sampler=ctload.SequentialSampler(1), crop=ctload.CenterCrop((8, 12, 10))) as loader,
        pytest.raises(LoaderError, match="to='torch'"),
    ):
        adapter.meta_batch(next(iter(loader)))
