"""What a loader saves and what it holds a saved state against. Plain data, safe for JSON; no loader is known here."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ctload.errors import ResumeMismatchError
from ctload.planning.augment import Augment
from ctload.planning.crop import Crop
from ctload.planning.window import HuWindow
from ctload.sampling.bound import BoundSampler
from ctload.sampling.elastic import ListSampler
from ctload.storage.manifest import Studies

FORMAT = 1
KEYS = ("format", "epoch", "step", "fingerprints", "quarantine")


def fingerprints(
    *,
    studies: Studies,
    bound: BoundSampler,
    sampler: object,
    crop: Crop,
    windows: Sequence[HuWindow],
    augment: Augment | None,
    channels: Sequence[str],
    labels: Sequence[str],
    num_views: int,
) -> dict[str, dict[str, str]]:
    """For each thing that decides what a batch is, a `digest` that is equal when the thing is, and a `text`."""
    texts = {
        "studies": f"{len(studies)} studies, fingerprint {studies.fingerprint}",
        "sampler": f"{sampler!r} bound to its studies",
        "crop": repr(crop),
        "window": repr(tuple(windows)),
        "augment": repr(augment or Augment()),
        "channels": repr(tuple(channels)),
    }
    # Left out where there are none, so that states of loaders that knew none are still good.
    texts |= {"views": f"{num_views} views of each study"} if num_views > 1 else {}
    texts |= {"labels": repr(tuple(labels))} if labels else {}
    digests = {"studies": studies.fingerprint, "sampler": bound.fingerprint}
    kept = {name: {"digest": digests.get(name, text), "text": text} for name, text in texts.items()}
    if isinstance(bound, ListSampler):
        # Equal for samplers that differ in their batch size alone: a run may go on with another.
        plain = repr(replace(sampler, batch_size=1))  # pyright: ignore[reportArgumentType]
        kept["sampler"]["list"] = f"{studies.fingerprint} {plain}"
    return kept


def check_state(
    state: Mapping[str, Any], now: Mapping[str, Mapping[str, str]], *, allow_mismatch: Collection[str]
) -> None:
    """Refuse a state of another loader.

    Args:
        state: What a loader saved.
        now: Fingerprints of the loader that is to go on.
        allow_mismatch: Names of fingerprints that may differ.

    Raises:
        ResumeMismatchError: Something differs; the message names it, as it was saved and as it is now.
    """
    missing = [key for key in KEYS if key not in state]
    if missing or state["format"] != FORMAT:
        raise ResumeMismatchError(
            f"this is no loader state of format {FORMAT}: it lacks {missing or 'nothing'} and says "
            f"format={state.get('format')!r}; pass what Loader.state_dict() of this version gave"
        )
    names = {**now, **state["fingerprints"]}
    unknown = sorted(set(allow_mismatch) - set(names))
    if unknown:
        raise ResumeMismatchError(f"allow_mismatch names {unknown}; what can differ is {sorted(names)}")
    nothing = {"digest": None, "text": "nothing"}
    for name in names:
        value, saved = now.get(name, nothing), state["fingerprints"].get(name, nothing)
        is_same_list = "list" in value and value["list"] == saved.get("list") and "batch_size" in state
        if saved["digest"] != value["digest"] and not is_same_list and name not in allow_mismatch:
            raise ResumeMismatchError(
                f"{name} is not what it was: saved {saved['text']}, now {value['text']}."
                f"{_reason(name, state)} The remaining batches would "
                "not be those of the interrupted run; give the loader what was saved, or pass "
                f"allow_mismatch={_way_out(name)} to go on from the same position with other batches"
            )


def _reason(name: str, state: Mapping[str, Any]) -> str:
    if name != "sampler" or "batch_size" not in state:
        return ""
    return (
        " The batch size alone may change where an epoch is one list of studies (SequentialSampler, ShuffleSampler "
        "without units); quotas, units and weights count in batches of one size."
    )


def _way_out(name: str) -> str:
    # A sampler's fingerprint covers its studies, so other studies change both.
    return "('studies', 'sampler')" if name == "studies" else f"({name!r},)"
