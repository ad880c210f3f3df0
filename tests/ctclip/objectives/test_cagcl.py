"""CA-GCL: what the local term cannot see, the global term does. An exact test, in both directions."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from ctclip.errors import ConfigError
from ctclip.models.features import Features
from ctclip.objectives.cagcl import cagcl_objective, global_cells, global_loss
from ctclip.objectives.facts import Facts
from ctclip.objectives.fvlm import local_loss
from ctclip.objectives.parameters import CagclParameters, GlobalParameters, LocalParameters
from tests.ctclip.objectives.rows import made_facts, random_features

STUDIES, ANATOMIES, DIM = 6, 4, 16
FORMS = ("all", "cross_only", "category")


def separate_anatomies() -> tuple[Features, Facts]:
    """Anatomies around directions of their own, image and text of a study alike, all texts different."""
    generator = torch.Generator().manual_seed(1)

    def noise(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    centre = normalize(noise(ANATOMIES, DIM), dim=1) * 8
    both = centre + noise(STUDIES, ANATOMIES, DIM)
    image, text = ((both + 0.5 * noise(STUDIES, ANATOMIES, DIM)).flatten(0, 1) for _ in range(2))
    num = STUDIES * ANATOMIES
    ids = torch.arange(num)
    facts = Facts(ids // ANATOMIES, ids // ANATOMIES, torch.ones(num).long(), ids, ids % ANATOMIES)
    return Features(image, text, torch.tensor(2.0, dtype=torch.float64)), facts


def collapsed(features: Features, facts: Facts) -> Features:
    """Each anatomy reflected so that the mean direction of its texts falls on the first axis: an orthogonal map."""
    image, text = features.image.clone(), features.text.clone()
    target = torch.eye(DIM, dtype=torch.float64)[0]
    for anatomy in range(ANATOMIES):
        rows = facts.anatomy == anatomy
        mirror = normalize(normalize(text[rows], dim=1).mean(0), dim=0) - target
        house = torch.eye(DIM, dtype=torch.float64) - 2 * torch.outer(mirror, mirror) / (mirror @ mirror)
        torch.testing.assert_close(house @ house.T, torch.eye(DIM, dtype=torch.float64))
        image[rows], text[rows] = image[rows] @ house.T, text[rows] @ house.T
    return features._replace(image=image, text=text)


def cross_anatomy_cosine(text: torch.Tensor, facts: Facts) -> torch.Tensor:
    unit = normalize(text, dim=1)
    return (unit @ unit.T)[facts.anatomy[:, None] != facts.anatomy].mean()


def test_orthogonal_maps_per_anatomy_leave_the_local_term_unchanged():
    features, facts = separate_anatomies()
    after = collapsed(features, facts)
    assert cross_anatomy_cosine(features.text, facts) < 0.2
    assert cross_anatomy_cosine(after.text, facts) > 0.7
    for parameters in (LocalParameters(), LocalParameters("mean")):
        before, now = local_loss(features, facts, parameters), local_loss(after, facts, parameters)
        assert before.item() > 0.1
        torch.testing.assert_close(now, before, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_the_global_term_is_larger_after_the_collapse(form):
    features, facts = separate_anatomies()
    parameters = GlobalParameters(form)
    before, now = (global_loss(one, facts, parameters) for one in (features, collapsed(features, facts)))
    assert now > before + 0.3


def torques(features: Features, facts: Facts, loss: torch.Tensor) -> list[float]:
    """Per anatomy, the largest change of the loss as its images and texts turn together: 0 means it cannot see it."""
    d_image, d_text = torch.autograd.grad(loss, (features.image, features.text))
    found = []
    for anatomy in range(ANATOMIES):
        rows = facts.anatomy == anatomy
        moment = features.image[rows].T @ d_image[rows] + features.text[rows].T @ d_text[rows]
        found.append((moment - moment.T).abs().max().item())
    return found


def test_only_the_global_term_has_a_gradient_that_turns_an_anatomy():
    features, facts = separate_anatomies()
    after = collapsed(features, facts)
    after = after._replace(image=after.image.requires_grad_(), text=after.text.requires_grad_())
    assert max(torques(after, facts, local_loss(after, facts, LocalParameters()))) < 1e-12
    for form in FORMS:
        assert min(torques(after, facts, global_loss(after, facts, GlobalParameters(form)))) > 1e-3


@pytest.mark.parametrize("form", ["all", "cross_only"])
def test_down_the_global_loss_is_down_the_similarity_of_anatomies(form):
    features, facts = separate_anatomies()
    after = collapsed(features, facts)
    text = after.text.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(global_loss(after._replace(text=text), facts, GlobalParameters(form)), text)
    (apart,) = torch.autograd.grad(cross_anatomy_cosine(text, facts), text)
    assert (gradient * apart).sum() > 0


def test_one_anatomy_makes_the_global_term_the_local_one():
    features, facts = random_features(8), made_facts(8, with_queue=False)
    local = local_loss(features, facts, LocalParameters())
    torch.testing.assert_close(global_loss(features, facts, GlobalParameters("all")), local)
    for form in ("cross_only", "category"):
        assert global_loss(features, facts, GlobalParameters(form)).item() == 0


def test_the_loss_is_nothing_where_there_is_nothing_to_tell_apart():
    for num in (1, 5):
        ids = torch.arange(num)
        zeros = torch.zeros_like(ids)
        facts = Facts(ids, ids, zeros, ids, zeros)  # all normal, one anatomy
        assert cagcl_objective(random_features(num), facts, CagclParameters())[0].item() == 0


def test_a_sentence_of_two_anatomies_is_neither_positive_nor_negative_across_them():
    ids = torch.arange(4)
    facts = Facts(torch.tensor([0, 0, 1, 1]), ids, torch.ones(4).long(), torch.tensor([7, 7, 8, 9]), ids % 2)
    positive, candidate = global_cells(facts, GlobalParameters())
    assert positive.tolist() == torch.eye(4).bool().tolist()
    assert (~candidate).nonzero().tolist() == [[0, 1], [1, 0]]
    _, all_candidates = global_cells(facts, GlobalParameters(mask_equal_text=False))
    assert all_candidates.all()


def test_forms_differ_in_their_cells_as_they_say():
    facts = made_facts(8, anatomies=2, with_queue=False)
    facts = replace(facts, text=torch.arange(8), abnormal=torch.tensor([0, 1, 0, 1, 1, 0, 1, 0]))
    anatomy = facts.anatomy[:, None] == facts.anatomy
    positive, candidate = global_cells(facts, GlobalParameters("all"))
    assert not (positive & ~anatomy).any()
    assert candidate.all()
    _, cross = global_cells(facts, GlobalParameters("cross_only"))
    assert torch.equal(cross, positive | ~anatomy)
    category, _ = global_cells(facts, GlobalParameters("category"))
    assert torch.equal(category, anatomy)


def test_what_is_asked_for_and_missing_is_refused():
    features, facts = random_features(4), made_facts(4, anatomies=2, with_queue=False)
    facts = replace(facts, scalars=type(facts.scalars)())
    with pytest.raises(ConfigError, match="own_temperature needs its learned across_scale"):
        cagcl_objective(features, facts, CagclParameters(across=GlobalParameters(own_temperature=True)))
    with pytest.raises(ConfigError, match=r"weight_volume=0.5 needs features of whole volumes"):
        cagcl_objective(features, facts, CagclParameters(weight_volume=0.5))
